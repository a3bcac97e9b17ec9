"""How the collector is doing, so that a page can say which part is down, and since when."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class CollectorStatus:
    """What the last tick did, and totals since the shared cache was last emptied.

    Times are unix seconds. `failing_since` and `reason` are set while ticks fail.
    """

    attempted_at: float = 0.0
    taken_at: float = 0.0  # of the picture in the cache
    collected_at: float = 0.0  # of the picture in the cache
    failing_since: float | None = None
    reason: str = ""
    ticks: int = 0
    failures: int = 0
    skipped: int = 0
    queries: int = 0
    query_seconds: float = 0.0

    def succeeded(
        self, *, at_s: float, taken_at: float, queries: int, query_seconds: float
    ) -> CollectorStatus:
        """The status after a tick that made a picture."""
        return dataclasses.replace(
            self,
            attempted_at=at_s,
            taken_at=taken_at,
            collected_at=at_s,
            failing_since=None,
            reason="",
            ticks=self.ticks + 1,
            queries=self.queries + queries,
            query_seconds=self.query_seconds + query_seconds,
        )

    def failed(self, *, at_s: float, reason: str, queries: int) -> CollectorStatus:
        """The status after a tick that made none; remembers when that began."""
        return dataclasses.replace(
            self,
            attempted_at=at_s,
            failing_since=at_s if self.failing_since is None else self.failing_since,
            reason=reason,
            ticks=self.ticks + 1,
            failures=self.failures + 1,
            queries=self.queries + queries,
        )

    def passed_over(self) -> CollectorStatus:
        """The status after a tick that found the previous one still running."""
        return dataclasses.replace(self, skipped=self.skipped + 1)


def status_to_json(status: CollectorStatus) -> bytes:
    """Encode a status."""
    return orjson.dumps(dataclasses.asdict(status))


def status_from_json(data: bytes | None) -> CollectorStatus:
    """Decode a status; what cannot be read is a collector that has never run."""
    try:
        document: Any = orjson.loads(data or b"{}")
    except orjson.JSONDecodeError:
        return CollectorStatus()
    if not isinstance(document, dict):
        return CollectorStatus()
    known = {spec.name for spec in dataclasses.fields(CollectorStatus)}
    return CollectorStatus(**{name: value for name, value in document.items() if name in known})

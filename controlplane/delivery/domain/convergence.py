"""How a publication spreads over the instances of its service. Pure arithmetic on answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

LIVE_WITHIN = timedelta(seconds=35)
"""An instance seen within this time is live: a long-poll lasts 30 s, and 5 s are for the way."""


@dataclass(frozen=True, slots=True)
class InstanceState:
    """A live instance: when it was first seen, and which publication it enforces now."""

    instance_id: str
    first_seen_at: datetime
    sequence: int | None
    rejected_sequence: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """The first answer of one instance to the publication."""

    instance_id: str
    is_applied: bool
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An instance that could not apply the publication, and why."""

    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Convergence:
    """How far one publication has spread over the live instances of its service.

    `silent` have not answered yet. Times are seconds from publication to the acknowledgement of
    the first, median, ... and last instance that applied it; None while none has. Instances that
    started after the publication count as applied and leave the times alone.
    """

    sequence: int
    published_at: datetime
    live: int
    applied: int
    rejected: tuple[Rejected, ...]
    silent: tuple[str, ...]
    first_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    last_s: float | None

    @property
    def is_complete(self) -> bool:
        """True when there are live instances and every one of them enforces it, or a later one."""
        return self.live > 0 and self.applied == self.live


def measure_convergence(
    *,
    sequence: int,
    published_at: datetime,
    live: Iterable[InstanceState],
    answers: Iterable[Answered],
) -> Convergence:
    """Relate the answers to one publication to the instances that live now.

    An instance that enforces a later publication has passed this one, whether or not it ever
    answered it: publications replace each other, and a poll may skip some.
    """
    by_instance = {answer.instance_id: answer for answer in answers}
    rejected: list[Rejected] = []
    silent: list[str] = []
    applied = count = 0
    joined_later: set[str] = set()
    for instance in live:
        count += 1
        if instance.first_seen_at > published_at:
            joined_later.add(instance.instance_id)
        answer = by_instance.get(instance.instance_id)
        is_past = instance.sequence is not None and instance.sequence >= sequence
        if is_past or (answer is not None and answer.is_applied):
            applied += 1
        elif answer is not None:
            rejected.append(Rejected(instance.instance_id, answer.reason))
        elif instance.rejected_sequence == sequence:
            rejected.append(Rejected(instance.instance_id, instance.reason))
        else:
            silent.append(instance.instance_id)
    took_s = sorted(
        max(0.0, (answer.at - published_at).total_seconds())
        for answer in by_instance.values()
        if answer.is_applied and answer.instance_id not in joined_later
    )
    return Convergence(
        sequence=sequence,
        published_at=published_at,
        live=count,
        applied=applied,
        rejected=tuple(rejected),
        silent=tuple(silent),
        first_s=took_s[0] if took_s else None,
        p50_s=nearest_rank(took_s, 0.50),
        p95_s=nearest_rank(took_s, 0.95),
        p99_s=nearest_rank(took_s, 0.99),
        last_s=took_s[-1] if took_s else None,
    )


def nearest_rank(ordered: Sequence[float], ratio: float) -> float | None:
    """Return the smallest value that at least `ratio` of `ordered` do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(ratio * len(ordered)) - 1)]

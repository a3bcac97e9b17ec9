"""Whether a service is an Envoy, which cannot take every field of a policy live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from controlplane.delivery.adapters.xds_places import note_on
from controlplane.delivery.selectors import list_instances

AGENT = "envoy/"


@dataclass(frozen=True, slots=True)
class Envoys:
    """How many of the live instances of a service are Envoys."""

    count: int
    live: int

    @property
    def are_all(self) -> bool:
        """Whether every live instance is one."""
        return self.count == self.live

    @property
    def note_on(self) -> Callable[[str], str]:
        """What to know of the field at a path; nothing where no instance is an Envoy."""
        return note_on if self.count else _nothing


def find_envoys(environment: str, service_slug: str, now: datetime) -> Envoys:
    """Count them, by what their requests say they are; two queries."""
    live = [row for row in list_instances(environment, service_slug, now=now) if row.is_live]
    return Envoys(sum(row.sdk.startswith(AGENT) for row in live), len(live))


def _nothing(path: str) -> str:
    return ""

"""What an instance should enforce: the newest publication of its service and cohort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.delivery.domain.cohorts import position
from controlplane.delivery.domain.snapshot import CANARY, STABLE


@dataclass(frozen=True, slots=True)
class Served:
    """One publication without its policies. `switches_at` is when its scheduled steps take over."""

    sequence: int
    issued_at: datetime
    switches_at: tuple[datetime, ...] = ()
    cohort: str = STABLE
    ratio: float = 0.0
    salt: str = ""

    @property
    def is_canary(self) -> bool:
        """Whether it is for the first part of the instances only."""
        return self.cohort == CANARY

    def reaches(self, instance_id: str) -> bool:
        """Say whether a canary publication is for this instance; one with ratio 0 is for none."""
        return self.ratio > 0.0 and position(self.salt, instance_id) < self.ratio

    def step_at(self, now: datetime) -> int:
        """Return the number of the step in force at `now`: 0 until the first switch."""
        return sum(at <= now for at in self.switches_at)


@dataclass(frozen=True, slots=True)
class Lineup:
    """The newest publications of one service: to everybody, and to the canary's instances.

    Not its own when nobody registered it, and it is served the fleet default.
    """

    stable: Served | None
    canary: Served | None = None
    is_own: bool = True

    def for_instance(self, instance_id: str) -> Served | None:
        """Return what this instance should enforce; None when nothing was ever published."""
        if self.canary is not None and self.canary.reaches(instance_id):
            return self.canary
        return self.stable

    def is_for(self, published: Served, instance_id: str) -> bool:
        """Say whether `published`, of this service at any time, was meant for this instance.

        To everybody means everybody whom the present canary does not reach.
        """
        if published.is_canary:
            return published.reaches(instance_id)
        return self.canary is None or not self.canary.reaches(instance_id)


def lineup_of(publications: Sequence[Served]) -> Lineup:
    """Return the newest publication of each cohort among those of one service."""
    newest: dict[str, Served] = {}
    for each in publications:
        if each.cohort not in newest or newest[each.cohort].sequence < each.sequence:
            newest[each.cohort] = each
    return Lineup(stable=newest.get(STABLE), canary=newest.get(CANARY))

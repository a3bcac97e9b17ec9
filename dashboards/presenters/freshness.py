"""How old what a region shows is, and why: the same words everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from controlplane.telemetry.selectors import Freshness as State
from controlplane.telemetry.selectors import PictureRead

STALE_AFTER_S = 20  # three intervals of the collector, and the lag of the scrapes it reads


@dataclass(frozen=True, slots=True)
class Freshness:
    """The age of a region's figures. `problems` say which figures are missing, and why."""

    state: State
    age_s: float | None
    reason: str
    taken_at: datetime | None
    stale_after_s: int = STALE_AFTER_S
    problems: tuple[str, ...] = ()

    @property
    def tone(self) -> str:
        """Class of the pill."""
        return {State.LIVE: "ok", State.STALE: "warn", State.UNAVAILABLE: "crit"}[self.state]

    @property
    def word(self) -> str:
        """Shape and word of the pill, before the age."""
        return {
            State.LIVE: "● live",
            State.STALE: "◆ stale",
            State.UNAVAILABLE: "▲ no data",
        }[self.state]

    @property
    def suffix(self) -> str:
        """What follows the age."""
        return "ago" if self.state is State.LIVE else "old"

    @property
    def is_old(self) -> bool:
        """Whether figures must look old."""
        return self.state is not State.LIVE


def freshness_of(read: PictureRead) -> Freshness:
    """The freshness of a read of the fleet picture."""
    taken_at = None if read.picture is None else datetime.fromtimestamp(read.picture.taken_at, UTC)
    return Freshness(
        state=State.UNAVAILABLE if read.picture is None else read.state,
        age_s=read.age_s,
        reason=read.reason or "",
        taken_at=taken_at,
        problems=() if read.picture is None else read.picture.problems,
    )

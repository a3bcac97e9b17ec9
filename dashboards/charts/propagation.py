"""Curves and timelines of a publication on its way, on one logarithmic axis for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 240.0
HEIGHT = 32.0
LEFT_S = 0.01
RIGHT_S = 120.0
MARKS_S = ((0.1, "0.1 s"), (1.0, "1 s"), (10.0, "10 s"), (60.0, "1 m"))


@dataclass(frozen=True, slots=True)
class Mark:
    """One labelled line of the axis."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Curve:
    """How many instances had it, over time since the publication.

    `applied` fills an area, `fetched` is a line; both are paths, empty when there is nothing, and
    reach to `end`, the present. `rejected` is the height of those that refused, from the top.
    """

    applied: str
    fetched: str
    p50: float | None
    p99: float | None
    end: float
    rejected: float

    @property
    def is_empty(self) -> bool:
        """Whether no instance lived when it was published, or none has answered."""
        return not (self.applied or self.fetched or self.rejected)


@dataclass(frozen=True, slots=True)
class Journey:
    """One instance's way: where it was sent the publication, and where it applied or refused it."""

    fetched: float | None
    applied: float | None
    rejected: float | None
    waits_from: float | None

    @property
    def end(self) -> float | None:
        """Where its line ends; None when nothing has happened."""
        known = [x for x in (self.fetched, self.applied, self.rejected) if x is not None]
        return max(known, default=None)


def axis() -> tuple[Mark, ...]:
    """Return the lines that every curve has, left to right."""
    return tuple(Mark(position(at_s), label) for at_s, label in MARKS_S)


def position(seconds: float) -> float:
    """Return where a time since the publication stands: 10 ms left, 2 minutes right."""
    share = math.log(max(seconds, LEFT_S) / LEFT_S) / math.log(RIGHT_S / LEFT_S)
    return round(WIDTH * min(share, 1.0), 1)


def curve(
    *,
    applied_s: Sequence[float],
    fetched_s: Sequence[float],
    concerned: int,
    rejected: int,
    p50_s: float | None,
    p99_s: float | None,
    age_s: float,
) -> Curve:
    """Draw one publication over the instances it concerned.

    Args:
        applied_s: seconds from publication to each application, in order.
        fetched_s: the same for being sent it.
        concerned: how many instances were to have it; what the full height stands for.
        age_s: since when it is published; the curves end there.
    """
    end = position(age_s)
    line = _steps(applied_s, concerned, end)
    return Curve(
        applied=f"M0 {HEIGHT:g}{line}L{end:g} {HEIGHT:g}Z" if line else "",
        fetched=_line(_steps(fetched_s, concerned, end)),
        p50=None if p50_s is None else position(p50_s),
        p99=None if p99_s is None else position(p99_s),
        end=end,
        rejected=round(HEIGHT * min(rejected / concerned, 1.0), 1) if concerned else 0.0,
    )


def journey(
    *, fetch_s: float | None, apply_s: float | None, reject_s: float | None, waits_s: float | None
) -> Journey:
    """Draw one instance. `waits_s` is how long it has been waited for, if it still is."""

    def place(seconds: float | None) -> float | None:
        return None if seconds is None else position(seconds)

    return Journey(place(fetch_s), place(apply_s), place(reject_s), place(waits_s))


def _steps(times_s: Sequence[float], concerned: int, end: float) -> str:
    """Return the stairs as line segments, at most one per unit of width."""
    if not times_s or not concerned:
        return ""
    parts: list[str] = []
    height, last_x = HEIGHT, -1.0
    for count, at_s in enumerate(times_s, start=1):
        x = min(position(at_s), end)
        above = round(HEIGHT * (1 - min(count / concerned, 1.0)), 1)
        is_last = count == len(times_s)
        if x - last_x < 1.0 and not is_last:
            continue
        parts.append(f"L{x:g} {height:g}L{x:g} {above:g}")
        height, last_x = above, x
    parts.append(f"L{end:g} {height:g}")
    return "".join(parts)


def _line(steps: str) -> str:
    return f"M0 {HEIGHT:g}{steps}" if steps else ""

"""Answers of a source, and points on an even grid where a gap is a gap.

NaN and infinities never get past here: they are what Prometheus says for "no data".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Point = tuple[float, float | None]  # unix seconds, value or missing

STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
MOST_POINTS = 300  # per line: more than a chart can show


@dataclass(frozen=True, slots=True)
class Sample:
    """One series at one time."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Trace:
    """One series over a range, as far as the source has it: gaps are absent points."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class InstantAnswer:
    """What a source said about one time; `is_partial` when it left out what it could not reach."""

    samples: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """What a source said about a range; `is_partial` when it left out what it could not reach."""

    traces: tuple[Trace, ...]
    warnings: tuple[str, ...] = ()
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """One named line: a point for every step, None where there is no data.

    `capped` tells, point by point, that the true value is at least the one shown; empty when
    no point is.
    """

    name: str
    points: tuple[Point, ...]
    capped: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Grid:
    """Evenly spaced times, both ends included, aligned so that viewers share answers."""

    start_s: int
    end_s: int
    step_s: int

    @property
    def times(self) -> range:
        """Every time of the grid, oldest first."""
        return range(self.start_s, self.end_s + 1, self.step_s)


def aligned_time(now_s: float, step_s: int, lag_s: float) -> int:
    """The last multiple of `step_s` that is at least `lag_s` old: late scrapes are in by then."""
    return math.floor((now_s - lag_s) / step_s) * step_s


def grid_for(now_s: float, range_s: int, lag_s: float) -> Grid:
    """The grid that shows the last `range_s` in at most MOST_POINTS points or so."""
    wanted = max(range_s / MOST_POINTS, lag_s)
    step_s = next((step for step in STEPS_S if step >= wanted), STEPS_S[-1])
    end_s = aligned_time(now_s, step_s, lag_s)
    steps = max(1, range_s // step_s)
    return Grid(start_s=end_s - steps * step_s, end_s=end_s, step_s=step_s)


def on_grid(grid: Grid, points: Iterable[tuple[float, float]]) -> tuple[float | None, ...]:
    """One value per time of the grid; None where `points` has none."""
    found = {round(at): value for at, value in points if math.isfinite(value)}
    return tuple(found.get(at) for at in grid.times)


def with_times(grid: Grid, values: Sequence[float | None]) -> tuple[Point, ...]:
    """Pair each value with its time."""
    return tuple(zip((float(at) for at in grid.times), values, strict=True))


def add(first: float | None, second: float | None) -> float | None:
    """Sum of what is known; None when neither is."""
    if first is None:
        return second
    return first if second is None else first + second


def add_each(lines: Iterable[Sequence[float | None]], length: int) -> tuple[float | None, ...]:
    """Sum lines of equal length point by point."""
    total: list[float | None] = [None] * length
    for line in lines:
        total = [add(so_far, value) for so_far, value in zip(total, line, strict=True)]
    return tuple(total)


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part / whole`, where a missing part of a known whole is none of it.

    A counter that has never been raised has no series, so no part means 0 of the whole. An
    idle whole (0) has no ratio.
    """
    if whole is None or whole <= 0:
        return None
    return (part or 0.0) / whole

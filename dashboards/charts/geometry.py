"""Inline SVG geometry: sparklines and timelines as path and rectangle numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SPARK_WIDTH = 84.0
SPARK_HEIGHT = 22.0
PADDING = 2.0


def spark_path(points: Sequence[float | None], *, least_top: float) -> str:
    """Return the `d` of a sparkline's path; gaps stay gaps, empty when there is nothing.

    Args:
        points: oldest first; None where nothing was measured.
        least_top: the value the top stands for at least, so that noise near zero stays low.
    """
    known = [value for value in points if value is not None]
    if len(known) < 2:
        return ""
    top = max(max(known), least_top)
    step = SPARK_WIDTH / (len(points) - 1)
    usable = SPARK_HEIGHT - 2 * PADDING
    parts: list[str] = []
    pen = "M"
    for index, value in enumerate(points):
        if value is None:
            pen = "M"
            continue
        y = SPARK_HEIGHT - PADDING - usable * max(value, 0) / top
        parts.append(f"{pen}{index * step:.1f} {y:.1f}")
        pen = "L"
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Slice:
    """One stretch of a state timeline, in percent of its width."""

    x: float
    width: float
    state: str


def timeline(
    points: Sequence[tuple[float, str | None]], *, start: float, end: float, step_s: float
) -> tuple[Slice, ...]:
    """Merge states sampled every `step_s` seconds into stretches; unknown stretches are left out.

    Args:
        points: (unix seconds, state or None), oldest first.
        start: left edge, unix seconds.
        end: right edge, unix seconds.
        step_s: how long one sample stands for.
    """
    scale = 100 / max(end - start, 1)
    slices: list[Slice] = []
    for at, state in points:
        if state is None:
            continue
        x = max((at - step_s - start) * scale, 0)
        right = min((at - start) * scale, 100)
        if right <= x:
            continue
        last = slices[-1] if slices else None
        if last and last.state == state and abs(last.x + last.width - x) < 0.01:
            slices[-1] = Slice(last.x, right - last.x, state)
        else:
            slices.append(Slice(x, right - x, state))
    return tuple(Slice(round(s.x, 2), round(s.width, 2), s.state) for s in slices)


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled bar with an optional tick, in percent of its width."""

    width: float
    tone: str
    tick: float | None = None


def bar(share: float | None, *, tone: str = "", tick: float | None = None) -> Bar | None:
    """Return a bar filled to `share` (0..1, clamped), None when the share is unknown."""
    if share is None:
        return None
    return Bar(
        width=round(100 * min(max(share, 0), 1), 1),
        tone=tone,
        tick=None if tick is None else round(100 * min(max(tick, 0), 1), 1),
    )

"""Lines over time with change markers and reference lines, as plain Plotly dicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dashboards.charts.theme import axis, colour, layout

Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, token of its colour, and points in unix seconds.

    `capped` tells, point by point, that the true value is at least the one drawn; empty when no
    point is.
    """

    name: str
    token: str
    points: Points
    capped: Sequence[bool] = ()


@dataclass(frozen=True, slots=True)
class Marker:
    """One policy change: when, and who did what, in words."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A dashed horizontal line, such as an objective."""

    value: float
    text: str


def timeseries(
    lines: Sequence[Line],
    *,
    start_s: float,
    end_s: float,
    number_format: str,
    markers: Sequence[Marker] = (),
    references: Sequence[Reference] = (),
    least_top: float = 0.0,
) -> dict[str, Any]:
    """Return a figure.

    Args:
        number_format: d3 format of the y axis and the hover, such as ".1%" or ".2~s".
        least_top: the y axis reaches at least this far, so that noise near zero stays low.
    """
    shapes = [_vertical(marker) for marker in markers] + [_horizontal(each) for each in references]
    top = _top(lines, references, least_top)
    return {
        "data": [_trace(line, number_format) for line in lines] + _marker_trace(markers),
        "layout": layout(
            x=axis(type="date", range=[_iso(start_s), _iso(end_s)], hoverformat="%H:%M:%S UTC"),
            y=axis(range=[0, top], tickformat=number_format, nticks=5),
            shapes=shapes,
        ),
    }


def _top(lines: Sequence[Line], references: Sequence[Reference], least_top: float) -> float:
    values = [value for line in lines for _, value in line.points if value is not None]
    return (
        max([*values, *(each.value for each in references), least_top], default=1.0) * 1.12 or 1.0
    )


def _trace(line: Line, number_format: str) -> dict[str, Any]:
    trace = {
        "type": "scatter",
        "mode": "lines",
        "name": line.name,
        "x": [_iso(at) for at, _ in line.points],
        "y": [value for _, value in line.points],
        "connectgaps": False,
        "line": {"color": colour(line.token), "width": 1.8},
        "hovertemplate": f"%{{y:{number_format}}} %{{fullData.name}}<extra></extra>",
    }
    if any(line.capped):
        trace["customdata"] = ["≥ " if capped else "" for capped in line.capped]
        trace["hovertemplate"] = (
            f"%{{customdata}}%{{y:{number_format}}} %{{fullData.name}}<extra></extra>"
        )
    return trace


def _marker_trace(markers: Sequence[Marker]) -> list[dict[str, Any]]:
    if not markers:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "policy change",
            "yaxis": "y2",
            "x": [_iso(marker.at.timestamp()) for marker in markers],
            "y": [0.97] * len(markers),
            "text": [marker.text for marker in markers],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"color": colour("accent"), "size": 9, "symbol": "diamond"},
        }
    ]


def _vertical(marker: Marker) -> dict[str, Any]:
    at = _iso(marker.at.timestamp())
    return {
        "type": "line",
        "x0": at,
        "x1": at,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": colour("accent"), "width": 1, "dash": "dot"},
    }


def _horizontal(reference: Reference) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": reference.value,
        "y1": reference.value,
        "line": {"color": colour("warn"), "width": 1, "dash": "dash"},
    }


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]

"""The last minutes of every service's rate and errors, for sparklines.

Asked for once per step, not once per tick: the points in between would be the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.telemetry.domain.assemble import Histories
from controlplane.telemetry.domain.dialects import native
from controlplane.telemetry.domain.picture import FleetPicture, History
from controlplane.telemetry.domain.series import Grid, RangeAnswer, on_grid, ratio
from controlplane.telemetry.sources.port import QueryFailed, QueryRefused, SignalSource

STEP_S = 30
POINTS = 40


def history_grid(taken_at: int) -> Grid:
    """The grid of every sparkline as of `taken_at`."""
    end_s = taken_at // STEP_S * STEP_S
    return Grid(start_s=end_s - (POINTS - 1) * STEP_S, end_s=end_s, step_s=STEP_S)


def kept_histories(previous: FleetPicture | None, grid: Grid) -> Histories | None:
    """The histories of the previous picture, if they are those of `grid`."""
    if previous is None or previous.history_end != grid.end_s:
        return None
    return Histories(
        rate={name: found.rate_history for name, found in previous.services.items()},
        error={name: found.error_history for name, found in previous.services.items()},
    )


def read_histories(
    source: SignalSource, environment: str, grid: Grid, *, window_s: int
) -> tuple[Histories, tuple[str, ...]]:
    """Ask for both histories of all services; empty, with the reason, without an answer to one.

    Raises:
        SourceUnavailable: the source does not answer.
    """
    total_query, error_query = native.history_queries(environment, max(window_s, STEP_S))
    try:
        total = source.range(total_query, grid)
        errors = source.range(error_query, grid)
    except (QueryRefused, QueryFailed) as problem:
        return Histories(), ("history: " + problem.message,)
    rates = _by_service(total, grid)
    faults = _by_service(errors, grid)
    nothing: History = (None,) * len(grid.times)
    return (
        Histories(
            rate=rates,
            error={
                name: tuple(
                    ratio(part, whole)
                    for part, whole in zip(faults.get(name, nothing), line, strict=True)
                )
                for name, line in rates.items()
            },
        ),
        tuple("history: " + note for note in (*total.warnings, *errors.warnings)),
    )


def _by_service(answer: RangeAnswer, grid: Grid) -> Mapping[str, History]:
    return {
        trace.labels.get(native.SERVICE, ""): on_grid(grid, trace.points) for trace in answer.traces
    }

"""Ranges for charts: asked once per aligned step, whoever looks, and kept when the source fails."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from django.conf import settings

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.instruments import counter, histogram
from controlplane.telemetry.domain.charts import Chart, Scope, chart_of
from controlplane.telemetry.domain.series import Grid, Series, grid_for
from controlplane.telemetry.domain.signals import Breakdown, Signal
from controlplane.telemetry.domain.timeline import Timeline, timeline_chart, timelines
from controlplane.telemetry.selectors import Freshness, clock_text
from controlplane.telemetry.services.connect import signal_source
from controlplane.telemetry.services.fleet import read_fleet
from controlplane.telemetry.sources import shared_cache
from controlplane.telemetry.sources.port import QueryRefused, SignalSource, SourceUnavailable
from controlplane.telemetry.sources.shared_cache import CacheAway
from controlplane.telemetry.sources.single_flight import SingleFlight

SHORTEST_S, LONGEST_S = 60, 7 * 86400
KEEP_S = 2 * 3600  # a stale chart older than this says nothing about an incident

READS = counter(
    "tidegate_telemetry_range_reads_total", "Chart reads by what answered.", ("answered_by",)
)
SECONDS = histogram("tidegate_telemetry_range_query_seconds", "Time Prometheus took for a chart.")


@dataclass(frozen=True, slots=True)
class RangeRead:
    """One signal over time. `as_of` is its last point; `reason` is a sentence, empty when live.

    Without any series and without a reason, nothing has been measured.
    """

    signal: Signal
    series: tuple[Series, ...]
    step_s: int
    state: Freshness
    reason: str
    as_of: datetime | None


@dataclass(frozen=True, slots=True)
class TimelineRead:
    """Breakers of one service over time, one row per dependency."""

    rows: tuple[Timeline, ...]
    step_s: int
    state: Freshness
    reason: str
    as_of: datetime | None


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer, with the grid it was asked for."""

    grid: Grid
    series: tuple[Series, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Outcome:
    kept: _Kept | None
    state: Freshness
    reason: str


_flights: SingleFlight[_Outcome] = SingleFlight()


def read_range(
    signal: Signal,
    environment: str,
    service: str,
    *,
    range_s: int,
    now: datetime,
    by: Breakdown | str | None = None,
    dependency: str | None = None,
    source: SignalSource | None = None,
) -> RangeRead:
    """Return `signal` of one service over the last `range_s` seconds, one line per `by`.

    Args:
        range_s: 60 (a minute) to 604800 (a week).
        by: one of the signal's breakdowns; without it there is one line.
        dependency: only calls to this one, for outbound signals.

    Raises:
        InvalidInput: a range out of bounds, or a breakdown the signal does not have.
    """
    breakdown = _breakdown(signal, by)
    grid = _grid(range_s, now)
    edges: tuple[tuple[str, str], ...] = ()
    if signal is Signal.ATTEMPTS_RECEIVED:
        edges = read_fleet(environment).callers_of(service)
    scope = Scope(environment, service, _window_s(grid), breakdown, dependency, edges)
    found = _read(signal.value, scope, chart_of(signal, scope), grid, source)
    kept = found.kept
    return RangeRead(
        signal=signal,
        series=kept.series if kept else (),
        step_s=kept.grid.step_s if kept else grid.step_s,
        state=found.state,
        reason=found.reason,
        as_of=_as_of(kept),
    )


def read_breaker_timeline(
    environment: str,
    service: str,
    *,
    range_s: int,
    now: datetime,
    dependency: str | None = None,
    source: SignalSource | None = None,
) -> TimelineRead:
    """Return the worst state of each breaker of one service at every step.

    Raises:
        InvalidInput: a range out of bounds.
    """
    grid = _grid(range_s, now)
    # At least two scrapes, so that every step holds a sample.
    window_s = max(grid.step_s, round(2 * settings.TIDEGATE.scrape_interval_s), 1)
    scope = Scope(environment, service, window_s, None, dependency)
    found = _read("breakers", scope, timeline_chart(scope), grid, source)
    kept = found.kept
    return TimelineRead(
        rows=timelines(kept.series) if kept else (),
        step_s=kept.grid.step_s if kept else grid.step_s,
        state=found.state,
        reason=found.reason,
        as_of=_as_of(kept),
    )


def _read(
    drawn_as: str, scope: Scope, chart: Chart, grid: Grid, source: SignalSource | None
) -> _Outcome:
    key = _key(drawn_as, scope, chart, grid)
    flight: Hashable = (key, grid.end_s)
    return _flights.do(flight, lambda: _fetch(key, chart, grid, source or signal_source()))


def _fetch(key: str, chart: Chart, grid: Grid, source: SignalSource) -> _Outcome:
    stored = _stored(key)
    if stored is not None and stored.grid == grid:
        READS.labels("cache").inc()
        return _Outcome(stored, Freshness.LIVE, stored.note)
    try:
        with SECONDS.time():
            answers = [source.range(query, grid) for query in chart.queries]
    except (SourceUnavailable, QueryRefused) as error:
        READS.labels("stale" if stored else "nothing").inc()
        return _after_failure(stored, error.message)
    READS.labels("source").inc()
    notes = dict.fromkeys(note for answer in answers for note in answer.warnings)
    kept = _Kept(grid, chart.compose(grid, answers), " ".join(notes))
    if not notes:  # a partial answer must not be served again as if it were whole
        _store(key, kept)
    return _Outcome(kept, Freshness.LIVE, kept.note)


def _after_failure(stored: _Kept | None, message: str) -> _Outcome:
    if stored is None:
        return _Outcome(None, Freshness.UNAVAILABLE, message)
    reason = message.rstrip(".") + "; this is the answer of " + clock_text(stored.grid.end_s) + "."
    return _Outcome(stored, Freshness.STALE, reason)


def _stored(key: str) -> _Kept | None:
    try:
        body = shared_cache.read(key)
    except CacheAway:
        return None
    return None if body is None else _decoded(body)


def _store(key: str, kept: _Kept) -> None:
    grid = kept.grid
    body = orjson.dumps(
        {
            "grid": [grid.start_s, grid.end_s, grid.step_s],
            "lines": [
                [line.name, [value for _, value in line.points], line.capped]
                for line in kept.series
            ],
        }
    )
    try:
        shared_cache.write(key, body, keep_s=KEEP_S)
    except CacheAway:
        return


def _decoded(body: bytes) -> _Kept | None:
    try:
        document = orjson.loads(body)
        grid = Grid(*document["grid"])
        return _Kept(
            grid,
            tuple(
                Series(
                    name,
                    tuple(zip((float(at) for at in grid.times), values, strict=True)),
                    tuple(capped),
                )
                for name, values, capped in document["lines"]
            ),
        )
    except (ValueError, TypeError, KeyError):
        return None


def _key(drawn_as: str, scope: Scope, chart: Chart, grid: Grid) -> str:
    """One place per chart, whatever its time: an old answer is kept until there is a new one.

    What is stored are the lines, not the answers of the source: p50, p95 and p99 of an endpoint
    ask the same question and draw something else. So the key has all that the lines depend on.
    """
    span_s = grid.end_s - grid.start_s
    parts = [drawn_as, repr(scope), *(query.text for query in chart.queries)]
    parts += [str(span_s), str(grid.step_s)]
    return "telemetry:range:v2:" + hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _grid(range_s: int, now: datetime) -> Grid:
    if not SHORTEST_S <= range_s <= LONGEST_S:
        raise InvalidInput(
            "a range is " + str(SHORTEST_S) + " to " + str(LONGEST_S) + " seconds", field="range_s"
        )
    return grid_for(now.timestamp(), range_s, settings.TIDEGATE.scrape_interval_s)


def _window_s(grid: Grid) -> int:
    # Never shorter than a step: what happened between two points must show in one of them.
    return max(int(settings.TIDEGATE.rate_window_s), grid.step_s)


def _breakdown(signal: Signal, by: Breakdown | str | None) -> Breakdown | None:
    if by is None:
        return None
    allowed = sorted(signal.breakdowns)
    if by not in allowed:
        right = "one of: " + ", ".join(allowed) if allowed else "no breakdown"
        raise InvalidInput(
            signal.value + " cannot be broken down by '" + str(by) + "'; it takes " + right,
            field="by",
        )
    return Breakdown(by)


def _as_of(kept: _Kept | None) -> datetime | None:
    return None if kept is None else datetime.fromtimestamp(kept.grid.end_s, UTC)

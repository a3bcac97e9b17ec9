"""What a chart of each signal asks for, and how the answers become lines. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from controlplane.telemetry.domain.dialects import native
from controlplane.telemetry.domain.dialects.native import Reading
from controlplane.telemetry.domain.promql import Expression, Matcher
from controlplane.telemetry.domain.quantiles import bound_of, quantile
from controlplane.telemetry.domain.series import (
    Grid,
    RangeAnswer,
    Sample,
    Series,
    Trace,
    add_each,
    on_grid,
    ratio,
    with_times,
)
from controlplane.telemetry.domain.signals import Breakdown, Signal
from controlplane.telemetry.domain.tables import endpoint_key

Line = tuple[float | None, ...]
Name = Callable[[Mapping[str, str]], str | None]  # None leaves the trace out
Compose = Callable[[Grid, Sequence[RangeAnswer]], tuple[Series, ...]]

ALL = "all"
NO_RESPONSE = "no response"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose signal a chart shows, and over which window its rates are taken."""

    environment: str
    service: str
    window_s: int
    by: Breakdown | None = None
    dependency: str | None = None
    edges: tuple[tuple[str, str], ...] = ()  # who calls the service, and by which name

    def query(self, reading: Reading) -> Expression:
        """The query of `reading` for this service, and this dependency if one is named."""
        return native.reading_query(reading, self.environment, self.window_s, *self.matchers)

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        """What narrows a query to this scope."""
        mine = native.of_service(self.service)
        return (mine,) if self.dependency is None else (mine, native.of_dependency(self.dependency))


@dataclass(frozen=True, slots=True)
class Chart:
    """The queries behind a chart, and how to draw their answers."""

    queries: tuple[Expression, ...]
    compose: Compose


def chart_of(signal: Signal, scope: Scope) -> Chart:
    """Return what a chart of `signal` asks for; `scope.by` is one of the signal's breakdowns."""
    return _CHARTS[signal](scope)


def _rate(scope: Scope) -> Chart:
    if scope.by is Breakdown.STATUS_CLASS:
        query = native.status_query(scope.environment, scope.window_s, *scope.matchers)
        return Chart((query,), lambda grid, found: _lines(grid, found[0], _status_class))
    return _summed(Reading.REQUESTS, scope, _endpoint_name(scope))


def _error_ratio(scope: Scope) -> Chart:
    name = _endpoint_name(scope)

    def compose(grid: Grid, found: Sequence[RangeAnswer]) -> tuple[Series, ...]:
        return _ratios(grid, _sums(grid, found[1], name), _sums(grid, found[0], name))

    return Chart((scope.query(Reading.REQUESTS), scope.query(Reading.ERRORS)), compose)


def _latency(scope: Scope) -> Chart:
    query = native.latency_query(scope.environment, scope.window_s, *scope.matchers)
    wanted = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

    def compose(grid: Grid, found: Sequence[RangeAnswer]) -> tuple[Series, ...]:
        return tuple(
            series
            for title, q in wanted.items()
            for series in _quantiles(grid, found[0], q, _always(title))
        )

    return Chart((query,), compose)


def _one_quantile(q: float) -> Callable[[Scope], Chart]:
    def chart(scope: Scope) -> Chart:
        if scope.by is Breakdown.ENDPOINT:
            return _quantile_chart(scope.query(Reading.LATENCY), q, _endpoint)
        query = native.latency_query(scope.environment, scope.window_s, *scope.matchers)
        return _quantile_chart(query, q, _all)

    return chart


def _attempts(scope: Scope) -> Chart:
    name = _label(native.DEPENDENCY) if scope.by is Breakdown.DEPENDENCY else _all
    queries = (scope.query(Reading.CLIENT_REQUESTS), scope.query(Reading.CLIENT_ATTEMPTS))
    return Chart(queries, _attempts_compose(_sent(name)))


def _attempts_received(scope: Scope) -> Chart:
    edges = frozenset(scope.edges)
    matchers = native.of_edges(edges) if edges else (native.of_dependency(scope.service),)

    def name(labels: Mapping[str, str]) -> str | None:
        edge = (labels.get(native.SERVICE, ""), labels.get(native.DEPENDENCY, ""))
        return ALL if not edges or edge in edges else None

    queries = tuple(
        native.reading_query(reading, scope.environment, scope.window_s, *matchers)
        for reading in (Reading.CLIENT_REQUESTS, Reading.CLIENT_ATTEMPTS)
    )
    return Chart(queries, _attempts_compose(_sent(name)))


def _attempts_compose(name: Name) -> Compose:
    def compose(grid: Grid, found: Sequence[RangeAnswer]) -> tuple[Series, ...]:
        requests, attempts = _sums(grid, found[0], name), _sums(grid, found[1], name)
        known = {key: line for key, line in requests.items() if key in attempts}
        return _ratios(grid, attempts, known)

    return compose


def _dependency_latency(scope: Scope) -> Chart:
    name = _label(native.DEPENDENCY) if scope.by is Breakdown.DEPENDENCY else _all
    return _quantile_chart(scope.query(Reading.ATTEMPT_LATENCY), 0.95, name)


def _queue_wait(scope: Scope) -> Chart:
    return _quantile_chart(scope.query(Reading.QUEUE_WAIT), 0.95, _all)


def _by_label(reading: Reading, label: str, breakdown: Breakdown) -> Callable[[Scope], Chart]:
    def chart(scope: Scope) -> Chart:
        return _summed(reading, scope, _label(label) if scope.by is breakdown else _all)

    return chart


def _gauge(reading: Reading) -> Callable[[Scope], Chart]:
    return lambda scope: _summed(reading, scope, _all)


def _summed(reading: Reading, scope: Scope, name: Name) -> Chart:
    return Chart((scope.query(reading),), lambda grid, found: _lines(grid, found[0], name))


def _quantile_chart(query: Expression, q: float, name: Name) -> Chart:
    return Chart((query,), lambda grid, found: _quantiles(grid, found[0], q, name))


_CHARTS: Mapping[Signal, Callable[[Scope], Chart]] = {
    Signal.RATE: _rate,
    Signal.ERROR_RATIO: _error_ratio,
    Signal.LATENCY: _latency,
    Signal.P50: _one_quantile(0.5),
    Signal.P95: _one_quantile(0.95),
    Signal.P99: _one_quantile(0.99),
    Signal.ATTEMPTS_PER_REQUEST: _attempts,
    Signal.ATTEMPTS_RECEIVED: _attempts_received,
    Signal.DEPENDENCY_LATENCY: _dependency_latency,
    Signal.REJECTED: _by_label(Reading.REJECTED, native.REASON, Breakdown.REASON),
    Signal.WOULD_REJECT: _by_label(Reading.WOULD_REJECT, native.REASON, Breakdown.REASON),
    Signal.TENANTS: _by_label(Reading.TENANTS, native.TENANT, Breakdown.TENANT),
    Signal.INFLIGHT: _gauge(Reading.INFLIGHT),
    Signal.QUEUE_DEPTH: _gauge(Reading.QUEUE_DEPTH),
    Signal.QUEUE_WAIT: _queue_wait,
}


def _lines(grid: Grid, answer: RangeAnswer, name: Name) -> tuple[Series, ...]:
    sums = _sums(grid, answer, name)
    return tuple(Series(key, with_times(grid, sums[key])) for key in sorted(sums))


def _sums(grid: Grid, answer: RangeAnswer, name: Name) -> dict[str, Line]:
    rows: dict[str, list[Line]] = defaultdict(list)
    for trace in answer.traces:
        key = name(trace.labels)
        if key is not None:
            rows[key].append(on_grid(grid, trace.points))
    return {key: add_each(lines, len(grid.times)) for key, lines in rows.items()}


def _ratios(
    grid: Grid, parts: Mapping[str, Line], wholes: Mapping[str, Line]
) -> tuple[Series, ...]:
    nothing: Line = (None,) * len(grid.times)
    return tuple(
        Series(
            key,
            with_times(grid, list(map(ratio, parts.get(key, nothing), wholes[key]))),
        )
        for key in sorted(wholes)
    )


def _quantiles(grid: Grid, answer: RangeAnswer, q: float, name: Name) -> tuple[Series, ...]:
    histograms: dict[str, dict[float, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for trace in answer.traces:
        key, bound = name(trace.labels), _bound(trace)
        if key is not None and bound is not None:
            histograms[key][bound].append(on_grid(grid, trace.points))
    lines = []
    for key in sorted(histograms):
        sums = {bound: add_each(rows, len(grid.times)) for bound, rows in histograms[key].items()}
        found = [
            quantile(q, {bound: v for bound, line in sums.items() if (v := line[at]) is not None})
            for at in range(len(grid.times))
        ]
        capped = tuple(each is not None and each.capped for each in found)
        points = with_times(grid, [None if each is None else each.seconds for each in found])
        lines.append(Series(key, points, capped if any(capped) else ()))
    return tuple(lines)


def _bound(trace: Trace) -> float | None:
    try:
        return bound_of(trace.labels.get(native.LE, ""))
    except ValueError:
        return None


def _all(_labels: Mapping[str, str]) -> str | None:
    return ALL


def _always(name: str) -> Name:
    return lambda _labels: name


def _label(label: str) -> Name:
    return lambda labels: labels.get(label) or None


def _endpoint(labels: Mapping[str, str]) -> str | None:
    return endpoint_key(Sample(labels, 0.0))[0] or None


def _endpoint_name(scope: Scope) -> Name:
    return _endpoint if scope.by is Breakdown.ENDPOINT else _all


def _sent(name: Name) -> Name:
    """Leave out what never left the caller."""

    def sent(labels: Mapping[str, str]) -> str | None:
        if labels.get(native.OUTCOME) in native.UNSENT_OUTCOMES:
            return None
        return name(labels)

    return sent


def _status_class(labels: Mapping[str, str]) -> str | None:
    status = labels.get(native.STATUS, "")
    return status[0] + "xx" if status[:1].isdigit() else NO_RESPONSE

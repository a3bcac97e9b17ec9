"""RED charts of one service, or of one of its endpoints, with every policy change marked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.html import escape
from django.utils.text import Truncator

from controlplane.policies.selectors import Change, list_changes
from controlplane.registry.selectors import get_service
from controlplane.slo.selectors import service_status
from controlplane.telemetry.domain.series import Series
from controlplane.telemetry.domain.signals import Breakdown, Signal
from controlplane.telemetry.services.ranges import RangeRead, read_range
from dashboards.charts.theme import CYCLE
from dashboards.charts.timeseries import Line, Marker, Points, Reference, timeseries
from dashboards.presenters.change_words import change_words
from dashboards.presenters.ranges import RangeChoice, current_range, range_choices
from dashboards.presenters.values import changed_fields
from dashboards.templatetags.figures import MISSING, latency, per_s, percent, percent_exact, times

STATUS_TOKENS = {"2xx": "ok", "3xx": "muted", "4xx": "warn", "5xx": "crit"}
QUANTILE_TOKENS = {"p50": "ok", "p95": "warn", "p99": "crit"}
MARKED_CHANGES = 50
MARKED_FIELDS = 3
MARKED_REASON = 80  # characters


@dataclass(frozen=True, slots=True)
class LegendKey:
    """One entry of a legend."""

    token: str
    name: str


@dataclass(frozen=True, slots=True)
class ChartCard:
    """One chart: its headline, figure and legend, or why there is none."""

    key: str
    title: str
    headline: str
    summary: str
    figure: dict[str, Any] | None
    legend: tuple[LegendKey, ...]
    note: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServiceCharts:
    """The region with all charts of one service."""

    service_slug: str
    endpoint: str
    endpoints: tuple[str, ...]
    ranges: tuple[RangeChoice, ...]
    range_key: str
    cards: tuple[ChartCard, ...]
    markers: tuple[Marker, ...]
    state: str
    reason: str
    as_of: datetime | None


@dataclass(frozen=True, slots=True)
class _Look:
    """What distinguishes one chart from another."""

    key: str
    title: str
    headline: str
    number_format: str
    note: str
    references: Sequence[Reference] = ()
    least_top: float = 0.0


@dataclass(frozen=True, slots=True)
class _Ask:
    """What all charts have in common."""

    environment: str
    service_slug: str
    endpoint: str
    range_s: int
    now: datetime
    markers: tuple[Marker, ...]

    def read(self, signal: Signal, by: Breakdown | None = None) -> RangeRead:
        return read_range(
            signal, self.environment, self.service_slug, range_s=self.range_s, now=self.now, by=by
        )

    def of_endpoint(self, signal: Signal, name: str) -> tuple[RangeRead, list[Series]]:
        read = self.read(signal, Breakdown.ENDPOINT)
        found = [
            Series(name, each.points, each.capped)
            for each in read.series
            if each.name == self.endpoint
        ]
        return read, found


def present_charts(
    *, environment: str, service_slug: str, asked_range: str, endpoint: str, now: datetime
) -> ServiceCharts:
    """Read every chart of the service.

    Raises:
        NotFound: no such service.
    """
    service = get_service(environment, service_slug)
    endpoints = tuple(f"{each.method} {each.route}" for each in service.endpoints.all())
    ranges = range_choices(asked_range)
    chosen = current_range(ranges)
    since = now - timedelta(seconds=chosen.seconds)
    changes = list_changes(environment, service=service_slug, since=since, limit=MARKED_CHANGES)
    ask = _Ask(
        environment=environment,
        service_slug=service_slug,
        endpoint=endpoint if endpoint in endpoints else "",
        range_s=chosen.seconds,
        now=now,
        markers=tuple(marker_of(change) for change in changes),
    )
    reads: list[RangeRead] = []
    cards = (
        _rate(ask, reads),
        _errors(ask, reads),
        _duration(ask, reads),
        _attempts(ask, reads),
    )
    worst = _worst(reads)
    return ServiceCharts(
        service_slug=service_slug,
        endpoint=ask.endpoint,
        endpoints=endpoints,
        ranges=ranges,
        range_key=chosen.key,
        cards=cards,
        markers=ask.markers,
        state=worst.state,
        reason=worst.reason or "",
        as_of=worst.as_of,
    )


def marker_of(change: Change) -> Marker:
    """One change in lines of text; what people wrote is escaped, since Plotly reads markup."""
    fields = changed_fields(change.changes)
    lines = [f"{change.at:%H:%M} {change.actor}: {change_words(change)}"]
    lines += [f"{each.path} {each.before} → {each.after}" for each in fields[:MARKED_FIELDS]]
    if len(fields) > MARKED_FIELDS:
        lines.append(f"and {len(fields) - MARKED_FIELDS} more")
    lines.append(Truncator(change.reason).chars(MARKED_REASON))
    return Marker(at=change.at, text="<br>".join(escape(line) for line in lines if line))


def _rate(ask: _Ask, reads: list[RangeRead]) -> ChartCard:
    if ask.endpoint:
        read, series = ask.of_endpoint(Signal.RATE, "requests")
        lines = [Line(each.name, "info", each.points) for each in series]
    else:
        read = ask.read(Signal.RATE, Breakdown.STATUS_CLASS)
        lines = [
            Line(each.name, STATUS_TOKENS.get(each.name, "info"), each.points)
            for each in read.series
        ]
    reads.append(read)
    total = _sum_last(lines)
    look = _Look(
        key="rate",
        title="Rate",
        headline=per_s(total),
        number_format=",.2~s",
        note="requests per second",
    )
    return _card(ask, read, lines, look)


def _errors(ask: _Ask, reads: list[RangeRead]) -> ChartCard:
    if ask.endpoint:
        read, series = ask.of_endpoint(Signal.ERROR_RATIO, "errors")
    else:
        read = ask.read(Signal.ERROR_RATIO)
        series = list(read.series)
    reads.append(read)
    target = _availability_target(ask)
    lines = [Line("errors", "crit", each.points) for each in series[:1]]
    references = [] if target is None else [Reference(1 - target, "objective")]
    note = "share of requests that failed"
    if target is not None:
        note += f" · objective {percent_exact(target)} dashed"
    look = _Look(
        key="errors",
        title="Errors",
        headline=percent(_last(lines)),
        number_format=".1%",
        note=note,
        references=references,
        least_top=0.01,
    )
    return _card(ask, read, lines, look)


def _duration(ask: _Ask, reads: list[RangeRead]) -> ChartCard:
    if ask.endpoint:
        found: list[Series] = []
        for signal, name in ((Signal.P50, "p50"), (Signal.P95, "p95"), (Signal.P99, "p99")):
            read, series = ask.of_endpoint(signal, name)
            reads.append(read)
            found += series
    else:
        read = ask.read(Signal.LATENCY)
        reads.append(read)
        found = list(read.series)
    lines = [
        Line(each.name, QUANTILE_TOKENS.get(each.name, "info"), each.points, each.capped)
        for each in found
    ]
    in_ms = [dataclasses.replace(line, points=_in_ms(line.points)) for line in lines]
    now_by_name = {line.name: _last_latency(line) for line in lines}
    headline = f"p95 {now_by_name.get('p95', MISSING)} · p99 {now_by_name.get('p99', MISSING)}"
    look = _Look(
        key="duration",
        title="Duration",
        headline=headline,
        number_format=",.3~r",
        note="milliseconds",
        least_top=50,
    )
    return _card(ask, read, in_ms, look)


def _attempts(ask: _Ask, reads: list[RangeRead]) -> ChartCard:
    sent = ask.read(Signal.ATTEMPTS_PER_REQUEST, Breakdown.DEPENDENCY)
    received = ask.read(Signal.ATTEMPTS_RECEIVED)
    reads += [sent, received]
    lines = [
        Line(f"to {each.name}", CYCLE[index % (len(CYCLE) - 1)], each.points)
        for index, each in enumerate(sent.series)
    ]
    lines += [Line("received", "muted", each.points) for each in received.series[:1]]
    worst = max((value for line in lines if (value := _last([line])) is not None), default=None)
    look = _Look(
        key="attempts",
        title="Attempts per request",
        headline=times(worst),
        number_format=".2~f",
        note="1.1 dashed: what a 10% retry budget allows",
        references=[Reference(1.1, "10% retry budget")],
        least_top=1.5,
    )
    return _card(ask, sent if sent.series else received, lines, look)


def _card(ask: _Ask, read: RangeRead, lines: Sequence[Line], look: _Look) -> ChartCard:
    has_points = any(value is not None for line in lines for _, value in line.points)
    end_s = ask.now.timestamp()
    figure = (
        timeseries(
            lines,
            start_s=end_s - ask.range_s,
            end_s=end_s,
            number_format=look.number_format,
            markers=ask.markers,
            references=look.references,
            least_top=look.least_top,
        )
        if has_points
        else None
    )
    return ChartCard(
        key=look.key,
        title=look.title,
        headline=look.headline if has_points else "—",
        summary=f"{look.title} over time. Now: {look.headline}.",
        figure=figure,
        legend=tuple(LegendKey(line.token, line.name) for line in lines),
        note=look.note,
        state=read.state if has_points or read.state == "unavailable" else "empty",
        reason=read.reason or "",
    )


def _availability_target(ask: _Ask) -> float | None:
    status = service_status(ask.environment, ask.now).get(ask.service_slug)
    objectives = () if status is None else status.objectives
    return next((each.target for each in objectives if each.kind == "availability"), None)


def _in_ms(points: Points) -> Points:
    return tuple((at, None if value is None else value * 1000) for at, value in points)


def _last_latency(line: Line) -> str:
    """The last value in words: "840 ms", or "≥ 10 s" where the last bucket ends."""
    capped = line.capped or (False,) * len(line.points)
    for (_, value), is_capped in zip(reversed(line.points), reversed(capped), strict=True):
        if value is not None:
            return f"≥ {latency(value)}" if is_capped else latency(value)
    return MISSING


def _last(lines: Sequence[Line]) -> float | None:
    for line in lines:
        for _, value in reversed(line.points):
            if value is not None:
                return value
    return None


def _sum_last(lines: Sequence[Line]) -> float | None:
    known = [value for line in lines if (value := _last([line])) is not None]
    return sum(known) if known else None


def _worst(reads: Sequence[RangeRead]) -> RangeRead:
    order = {"live": 0, "stale": 1, "unavailable": 2}
    return max(reads, key=lambda read: order.get(read.state, 0))

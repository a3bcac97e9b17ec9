"""The Fleet page: every service of one environment in one table, worst first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.access.domain.actors import Actor
from controlplane.delivery.selectors import fleet_convergence
from controlplane.policies.selectors import OverrideRow, list_overrides_in_force
from controlplane.policies.selectors.summary import PolicySummary, list_policy_summaries
from controlplane.registry.selectors import get_environment, list_services
from controlplane.slo.selectors import SloStatus, service_status
from controlplane.telemetry.domain.health import Health, State, judge
from controlplane.telemetry.domain.picture import FleetPicture, ServiceSignals
from controlplane.telemetry.domain.quantiles import Quantile
from controlplane.telemetry.selectors import read_picture
from dashboards.charts.geometry import Bar, bar, spark_path
from dashboards.presenters import tones
from dashboards.presenters.freshness import Freshness, freshness_of
from dashboards.presenters.states import (
    BreakerMark,
    StatePill,
    breaker_mark,
    other_pills,
    state_pill,
)

ERROR_SPARK_TOP = 0.02  # ratio: a sparkline under 2% errors stays low
SORTS = (("attention", "Needs attention first"), ("name", "A–Z"), ("team", "By team"))
NOTHING = ServiceSignals()


@dataclass(frozen=True, slots=True)
class Row:
    """One service."""

    slug: str
    team: str
    tier: int | None
    health: Health
    state: StatePill
    others: tuple[StatePill, ...]
    rate_per_s: float | None
    rate_path: str
    error_ratio: float | None
    error_tone: str
    error_path: str
    p95: Quantile | None
    p95_tone: str
    p99: Quantile | None
    p99_tone: str
    attempts: float | None
    attempts_tone: str
    attempts_to: str
    received: float | None
    received_tone: str
    breakers: tuple[BreakerMark, ...]
    shed_ratio: float | None
    shed_tone: str
    budget: float | None
    budget_tone: str
    budget_bar: Bar | None
    version: str
    override_count: int
    override_left_s: float | None
    current: int
    live: int

    @property
    def is_registered(self) -> bool:
        """Whether somebody registered it; else only its instances are known."""
        return self.tier is not None


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures over the table, of all services whatever the filter."""

    burning: int
    degraded: int
    healthy: int
    unknown: int
    rate_per_s: float | None
    breakers_open: int
    breakers: int
    attempts: float | None
    attempts_tone: str
    shed_ratio: float | None
    overrides: int
    next_end_s: float | None
    current: int
    live: int


@dataclass(frozen=True, slots=True)
class SortChoice:
    """One way to order the table."""

    key: str
    name: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Fleet:
    """The region of the Fleet page."""

    environment: str
    rows: tuple[Row, ...]
    total: int
    summary: Summary
    freshness: Freshness
    query: str
    sort: str
    sorts: tuple[SortChoice, ...]
    is_held: bool


@dataclass(frozen=True, slots=True)
class _Sources:
    """What the rows are made of, each read once for the whole fleet."""

    picture: FleetPicture | None
    is_stale: bool
    statuses: Mapping[str, SloStatus]
    policies: Mapping[str, PolicySummary]
    overrides: Mapping[str, Sequence[OverrideRow]]
    convergence: Mapping[str, tuple[int, int]]
    now: datetime


def present_fleet(
    *,
    environment: str,
    actor: Actor,
    query: str,
    sort: str,
    hold: str,
    now: datetime,
) -> Fleet:
    """Read everything once and build the table.

    Args:
        query: text that the name or team must contain; empty for all.
        sort: a key of SORTS; anything else means the first.
        hold: comma-separated slugs whose present order to keep, because somebody is reading them.
    """
    read = read_picture(environment, now)
    overrides: dict[str, list[OverrideRow]] = {}
    for override in list_overrides_in_force(environment, now=now):
        overrides.setdefault(override.service, []).append(override)
    sources = _Sources(
        picture=read.picture,
        is_stale=read.picture is not None and read.state != "live",
        statuses=service_status(environment, now),
        policies=list_policy_summaries(get_environment(environment), now),
        overrides=overrides,
        convergence=fleet_convergence(environment, now=now),
        now=now,
    )
    services = [
        service
        for service in list_services(environment)
        if actor.may("service.read", service.team.slug)
    ]
    known = {service.slug for service in services}
    rows = [_row(service.slug, service.team.name, service.tier, sources) for service in services]
    rows += [
        _row(slug, "", None, sources) for slug in sorted(sources.convergence) if slug not in known
    ]
    sort = sort if sort in dict(SORTS) else SORTS[0][0]
    shown = [row for row in rows if _matches(row, query)]
    shown = _ordered(shown, sort)
    shown, is_held = _held(shown, hold)
    return Fleet(
        environment=environment,
        rows=tuple(shown),
        total=len(rows),
        summary=_summary(rows, sources),
        freshness=freshness_of(read),
        query=query,
        sort=sort,
        sorts=tuple(SortChoice(key, name, key == sort) for key, name in SORTS),
        is_held=is_held,
    )


def _row(slug: str, team: str, tier: int | None, sources: _Sources) -> Row:
    signals = None if sources.picture is None else sources.picture.services.get(slug)
    status = sources.statuses.get(slug)
    policy = sources.policies.get(slug)
    overrides = sources.overrides.get(slug, ())
    health = judge(
        signals,
        is_stale=sources.is_stale,
        shed_level=0 if policy is None else policy.shed_level,
        burn_rate=None if status is None else status.worst_burn,
    )
    seen = signals or NOTHING
    worst_to, worst_attempts = _worst_dependency(seen)
    remaining = None if status is None else status.worst_remaining
    current, live = sources.convergence.get(slug, (0, 0))
    return Row(
        slug=slug,
        team=team,
        tier=tier,
        health=health,
        state=state_pill(health.worst),
        others=other_pills(health),
        rate_per_s=seen.rate_per_s,
        rate_path=spark_path(seen.rate_history, least_top=1.0),
        error_ratio=seen.error_ratio,
        error_tone=tones.error_tone(seen.error_ratio),
        error_path=spark_path(seen.error_history, least_top=ERROR_SPARK_TOP),
        p95=seen.p95,
        p95_tone=tones.latency_tone(seen.p95),
        p99=seen.p99,
        p99_tone=tones.latency_tone(seen.p99),
        attempts=worst_attempts,
        attempts_tone=tones.attempts_tone(worst_attempts),
        attempts_to=worst_to,
        received=seen.attempts_received_per_request,
        received_tone=tones.attempts_tone(seen.attempts_received_per_request),
        breakers=breakers_of(seen),
        shed_ratio=seen.shed_ratio,
        shed_tone=tones.shed_tone(seen.shed_ratio),
        budget=remaining,
        budget_tone=tones.budget_tone(remaining),
        budget_bar=bar(remaining, tone=tones.budget_tone(remaining)),
        version=_version(policy),
        override_count=len(overrides),
        override_left_s=_soonest_s(overrides, sources.now),
        current=current,
        live=live,
    )


def breakers_of(signals: ServiceSignals) -> tuple[BreakerMark, ...]:
    """Every breaker that some instance reports, by name of the dependency."""
    marks = (
        breaker_mark(name, dependency.breaker_states)
        for name, dependency in sorted(signals.dependencies.items())
    )
    return tuple(mark for mark in marks if mark is not None)


def _worst_dependency(signals: ServiceSignals) -> tuple[str, float | None]:
    known = [
        (dependency.attempts_per_request, name)
        for name, dependency in signals.dependencies.items()
        if dependency.attempts_per_request is not None
    ]
    if not known:
        return "", signals.attempts_per_request
    attempts, name = max(known)
    return name, attempts


def _version(policy: PolicySummary | None) -> str:
    return f"v{policy.version_number}" if policy and policy.version_number else "fleet default"


def _soonest_s(overrides: Sequence[OverrideRow], now: datetime) -> float | None:
    return min(((each.ends_at - now).total_seconds() for each in overrides), default=None)


def _matches(row: Row, query: str) -> bool:
    return query.strip().casefold() in f"{row.slug} {row.team}".casefold()


def _ordered(rows: list[Row], sort: str) -> list[Row]:
    if sort == "name":
        return sorted(rows, key=lambda row: row.slug)
    if sort == "team":
        return sorted(rows, key=lambda row: (row.team.casefold(), row.slug))
    return sorted(rows, key=lambda row: (row.health.rank, row.tier or 9, row.slug))


def _held(rows: list[Row], hold: str) -> tuple[list[Row], bool]:
    """Keep the order that the reader sees; what is new comes last."""
    place = {slug: index for index, slug in enumerate(hold.split(","))} if hold else {}
    if not place:
        return rows, False
    held = sorted(rows, key=lambda row: place.get(row.slug, len(place)))
    return held, held != rows


def _summary(rows: Sequence[Row], sources: _Sources) -> Summary:
    states = [row.health.worst.state for row in rows]
    unknown = (State.STALE, State.NO_DATA, State.IDLE)
    marks = [mark for row in rows for mark in row.breakers]
    signals = list(sources.picture.services.values()) if sources.picture else []
    ends = [row.override_left_s for row in rows if row.override_left_s is not None]
    attempts = _fleet_attempts(signals)
    return Summary(
        burning=sum(state in (State.BURNING, State.RETRY_STORM) for state in states),
        degraded=sum(
            state in (State.BREAKER_OPEN, State.SHEDDING, State.DEGRADED) for state in states
        ),
        healthy=sum(state is State.HEALTHY for state in states),
        unknown=sum(state in unknown for state in states),
        rate_per_s=_total(each.rate_per_s for each in signals),
        breakers_open=sum(mark.is_open for mark in marks),
        breakers=len(marks),
        attempts=attempts,
        attempts_tone=tones.attempts_tone(attempts),
        shed_ratio=_weighted_shed(signals),
        overrides=sum(row.override_count for row in rows),
        next_end_s=min(ends, default=None),
        current=sum(row.current for row in rows),
        live=sum(row.live for row in rows),
    )


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _fleet_attempts(signals: Sequence[ServiceSignals]) -> float | None:
    calls = [d for each in signals for d in each.dependencies.values() if d.rate_per_s]
    requests = sum(d.rate_per_s or 0 for d in calls if d.attempts_per_s is not None)
    attempts = sum(d.attempts_per_s or 0 for d in calls if d.attempts_per_s is not None)
    return attempts / requests if requests else None


def _weighted_shed(signals: Sequence[ServiceSignals]) -> float | None:
    known = [(s.shed_ratio, s.rate_per_s) for s in signals if s.shed_ratio is not None]
    requests = sum(rate or 0 for _, rate in known)
    return sum((ratio or 0) * (rate or 0) for ratio, rate in known) / requests if requests else None

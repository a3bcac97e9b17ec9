"""The Fleet page: every service of one environment in one table, worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.delivery.selectors import fleet_convergence
from controlplane.policies.selectors import OverrideRow, list_overrides_in_force
from controlplane.policies.selectors.summary import PolicySummary, list_policy_summaries
from controlplane.registry.selectors import get_environment, list_service_headings
from controlplane.slo.selectors import service_status
from controlplane.telemetry.domain.health import Health, judge
from controlplane.telemetry.domain.picture import FleetPicture, ServiceSignals
from controlplane.telemetry.domain.quantiles import Quantile
from controlplane.telemetry.selectors import PictureRead, read_picture
from dashboards.charts.geometry import Bar, bar, spark_path
from dashboards.presenters import tones
from dashboards.presenters.burns import burn_of
from dashboards.presenters.fleet_summary import Sources, Summary, summarize
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
PAGE_SIZE = 100  # more than anybody reads; the worst are on the first page
NOTHING = ServiceSignals()


@dataclass(frozen=True, slots=True)
class Row:
    """One service."""

    slug: str
    team: str
    tier: int | None
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
    matching: int
    page: int
    pages: int
    summary: Summary
    freshness: Freshness
    query: str
    sort: str
    sorts: tuple[SortChoice, ...]
    is_held: bool

    @property
    def page_in_url(self) -> int | None:
        """The page, unless it is the first: URLs leave that out."""
        return self.page if self.page > 1 else None

    @property
    def previous_page(self) -> int | None:
        """The page before; None for the first page, which URLs leave out."""
        return self.page - 1 if self.page > 2 else None

    @property
    def next_page(self) -> int:
        """The page after."""
        return self.page + 1


@dataclass(frozen=True, slots=True)
class _Entry:
    """One service before its row is drawn: what ordering and filtering need."""

    slug: str
    team: str
    tier: int | None
    health: Health


def present_fleet(
    *,
    environment: str,
    query: str,
    sort: str,
    hold: str,
    page: int,
    now: datetime,
) -> Fleet:
    """Read everything once, judge every service, and draw one page of rows.

    Args:
        query: text that the name or team must contain; empty for all.
        sort: a key of SORTS; anything else means the first.
        hold: comma-separated slugs whose present order to keep, because somebody is reading them.
        page: 1 for the first; beyond the last means the last.
    """
    read = read_picture(environment, now)
    sources = _read_sources(environment, read, now)
    entries = _entries(environment, sources)
    sort = sort if sort in dict(SORTS) else SORTS[0][0]
    matching = _ordered([entry for entry in entries if _matches(entry, query)], sort)
    pages = max(1, -(-len(matching) // PAGE_SIZE))
    page = min(max(page, 1), pages)
    shown, is_held = _held(matching[(page - 1) * PAGE_SIZE : page * PAGE_SIZE], hold)
    return Fleet(
        environment=environment,
        rows=tuple(_row(entry, sources) for entry in shown),
        total=len(entries),
        matching=len(matching),
        page=page,
        pages=pages,
        summary=summarize((entry.health for entry in entries), sources),
        freshness=freshness_of(read),
        query=query,
        sort=sort,
        sorts=tuple(SortChoice(key, name, key == sort) for key, name in SORTS),
        is_held=is_held,
    )


def _read_sources(environment: str, read: PictureRead, now: datetime) -> Sources:
    overrides: dict[str, list[OverrideRow]] = {}
    for override in list_overrides_in_force(environment, now=now):
        overrides.setdefault(override.service, []).append(override)
    return Sources(
        picture=read.picture,
        is_stale=read.picture is not None and read.state != "live",
        statuses=service_status(environment, now),
        policies=list_policy_summaries(get_environment(environment), now),
        overrides=overrides,
        convergence=fleet_convergence(environment, now=now),
        now=now,
    )


def _entries(environment: str, sources: Sources) -> list[_Entry]:
    """Every registered service, and those that only poll."""
    entries = [
        _Entry(service.slug, service.team.name, service.tier, _health(service.slug, sources))
        for service in list_service_headings(environment)
    ]
    known = {entry.slug for entry in entries}
    return entries + [
        _Entry(slug, "", None, _health(slug, sources))
        for slug in sorted(sources.convergence)
        if slug not in known
    ]


def _health(slug: str, sources: Sources) -> Health:
    status, policy = sources.statuses.get(slug), sources.policies.get(slug)
    return judge(
        None if sources.picture is None else sources.picture.services.get(slug),
        is_stale=sources.is_stale,
        shed_level=0 if policy is None else policy.shed_level,
        burn=burn_of(status, _fresh(sources), slug),
    )


def _fresh(sources: Sources) -> FleetPicture | None:
    """The picture, unless it is too old to say that anything has stopped."""
    return None if sources.is_stale else sources.picture


def _row(entry: _Entry, sources: Sources) -> Row:
    slug, health = entry.slug, entry.health
    signals = None if sources.picture is None else sources.picture.services.get(slug)
    status = sources.statuses.get(slug)
    overrides = sources.overrides.get(slug, ())
    seen = signals or NOTHING
    worst_to, worst_attempts = _worst_dependency(seen)
    remaining = None if status is None else status.worst_remaining
    current, live = sources.convergence.get(slug, (0, 0))
    return Row(
        slug=slug,
        team=entry.team,
        tier=entry.tier,
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
        version=_version(sources.policies.get(slug)),
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


def _matches(row: _Entry, query: str) -> bool:
    return query.strip().casefold() in f"{row.slug} {row.team}".casefold()


def _ordered(rows: list[_Entry], sort: str) -> list[_Entry]:
    if sort == "name":
        return sorted(rows, key=lambda row: row.slug)
    if sort == "team":
        return sorted(rows, key=lambda row: (row.team.casefold(), row.slug))
    return sorted(rows, key=lambda row: (row.health.rank, row.tier or 9, row.slug))


def _held(rows: list[_Entry], hold: str) -> tuple[list[_Entry], bool]:
    """Keep the order that the reader sees; what is new comes last."""
    place = {slug: index for index, slug in enumerate(hold.split(","))} if hold else {}
    if not place:
        return rows, False
    held = sorted(rows, key=lambda row: place.get(row.slug, len(place)))
    return held, held != rows

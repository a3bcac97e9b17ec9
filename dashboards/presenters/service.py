"""The Service page: its header, and the regions drawn from the fleet picture."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.access.domain.actors import Actor
from controlplane.policies.selectors import (
    current_version,
    effective_policy,
    list_overrides_in_force,
)
from controlplane.registry.selectors import get_service
from controlplane.slo.selectors import service_status
from controlplane.telemetry.domain.health import judge
from controlplane.telemetry.domain.picture import EndpointSignals, ServiceSignals
from controlplane.telemetry.selectors import PictureRead, read_picture
from dashboards.presenters import tones
from dashboards.presenters.burns import burn_of
from dashboards.presenters.freshness import Freshness, freshness_of
from dashboards.presenters.states import StatePill, other_pills, state_pill

SHED_LEVELS = (
    (0, "Shed off", "everything is served"),
    (1, "L1", "sheds sheddable"),
    (2, "L2", "sheds also sheddable_plus"),
    (3, "L3", "serves only critical_plus"),
)


@dataclass(frozen=True, slots=True)
class ShedChoice:
    """One shed level of the quick control."""

    level: int
    name: str
    meaning: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class OverridePill:
    """One live override in the header."""

    override_id: int
    reason: str
    opened_by: str
    left_s: float


@dataclass(frozen=True, slots=True)
class ServiceHeader:
    """Who this service is and how it is doing, in one line."""

    slug: str
    description: str
    tier: int
    team: str
    runbook_url: str
    state: StatePill
    others: tuple[StatePill, ...]
    overrides: tuple[OverridePill, ...]
    version: str
    previous_version: int | None
    shed_levels: tuple[ShedChoice, ...]
    may_tune: bool
    why_not: str
    freshness: Freshness


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """One endpoint's RED figures."""

    name: str
    criticality: str
    signals: EndpointSignals
    error_tone: str
    p99_tone: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The region with every endpoint of one service."""

    service_slug: str
    rows: tuple[EndpointRow, ...]
    freshness: Freshness


def present_header(
    *, environment: str, service_slug: str, actor: Actor, now: datetime
) -> ServiceHeader:
    """Build the header.

    Raises:
        NotFound: no such service.
    """
    service = get_service(environment, service_slug)
    read = read_picture(environment, now)
    signals = None if read.picture is None else read.picture.services.get(service_slug)
    status = service_status(environment, now).get(service_slug)
    level = int(effective_policy(service, now).policy["inbound"]["shedding"]["level"])
    version = current_version(service)
    health = judge(
        signals,
        is_stale=read.picture is not None and read.state != "live",
        shed_level=level,
        burn=burn_of(status, read.picture if read.state == "live" else None, service_slug),
    )
    overrides = list_overrides_in_force(environment, service_slug, now=now)
    return ServiceHeader(
        slug=service.slug,
        description=service.description,
        tier=service.tier,
        team=service.team.name,
        runbook_url=service.runbook_url,
        state=state_pill(health.worst),
        others=other_pills(health),
        overrides=tuple(
            OverridePill(
                override_id=each.id,
                reason=each.reason,
                opened_by=each.opened_by,
                left_s=(each.ends_at - now).total_seconds(),
            )
            for each in overrides
        ),
        version="fleet default" if version is None else f"v{version.number}",
        previous_version=version.number - 1 if version is not None and version.number > 1 else None,
        shed_levels=tuple(
            ShedChoice(number, name, meaning, number == level)
            for number, name, meaning in SHED_LEVELS
        ),
        may_tune=actor.may("override.open", service.team.slug),
        why_not=why_not(actor, service.team.name),
        freshness=freshness_of(read),
    )


def why_not(actor: Actor, team: str) -> str:
    """The sentence that a viewer reads beside disabled controls."""
    roles = ", ".join(sorted({grant.role for grant in actor.grants})) or "no role"
    return (
        f"You can look but not change: {roles}. "
        f"An operator of {team} may; an admin grants the role."
    )


def present_endpoints(*, environment: str, service_slug: str, now: datetime) -> Endpoints:
    """List registered endpoints and those that only the metrics know.

    Raises:
        NotFound: no such service.
    """
    service = get_service(environment, service_slug)
    read = read_picture(environment, now)
    signals = signals_of(read, service_slug)
    criticality = {
        f"{each.method} {each.route}": each.criticality for each in service.endpoints.all()
    }
    names = list(criticality) + sorted(set(signals.endpoints) - set(criticality))
    return Endpoints(
        service_slug=service_slug,
        rows=tuple(
            _endpoint(name, criticality.get(name, ""), signals.endpoints.get(name))
            for name in names
        ),
        freshness=freshness_of(read),
    )


def signals_of(read: PictureRead, slug: str) -> ServiceSignals:
    """The signals of one service; all missing when the picture has none."""
    found = None if read.picture is None else read.picture.services.get(slug)
    return found or ServiceSignals()


def _endpoint(name: str, criticality: str, signals: EndpointSignals | None) -> EndpointRow:
    seen = signals or EndpointSignals()
    return EndpointRow(
        name=name,
        criticality=criticality.replace("_", " "),
        signals=seen,
        error_tone=tones.error_tone(seen.error_ratio),
        p99_tone=tones.latency_tone(seen.p99),
    )

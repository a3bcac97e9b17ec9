"""The region with services that drift: who enforces something else, the worst first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.delivery.domain.drift import Drift, DriftKind, ServiceDrift
from controlplane.delivery.selectors import FleetDrift, fleet_drift
from controlplane.registry.selectors import list_service_headings
from dashboards.charts.geometry import Bar, bar
from dashboards.presenters.freshness import Freshness
from dashboards.presenters.reports import read_reports
from dashboards.presenters.states import StatePill

SHOWN_SERVICES = 50
SHOWN_INSTANCES = 4

_LOOK = {
    DriftKind.REJECTED: ("crit", "▲", "rejected"),
    DriftKind.UNKNOWN: ("crit", "▲", "unknown policy"),
    DriftKind.BEHIND: ("warn", "◆", "behind"),
    DriftKind.AHEAD: ("warn", "◆", "ahead"),
    DriftKind.UNCONFIRMED: ("warn", "◇", "unconfirmed"),
    DriftKind.SILENT: ("quiet", "◌", "silent"),
}


@dataclass(frozen=True, slots=True)
class DriftLine:
    """One instance that drifts, in words."""

    instance_id: str
    pill: StatePill
    text: str
    late_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class DriftRow:
    """One service with drift."""

    service: str
    is_registered: bool
    live: int
    current: int
    share: Bar | None
    pills: tuple[StatePill, ...]
    lines: tuple[DriftLine, ...]
    more: int
    expected: int | None


@dataclass(frozen=True, slots=True)
class DriftRegion:
    """The region, and the figures of the whole fleet over it."""

    environment: str
    freshness: Freshness | None
    live: int
    current: int
    drifting: int
    silent: int
    rejecting: int
    services: int
    rows: tuple[DriftRow, ...]
    more: int

    @property
    def is_old(self) -> bool:
        """Whether figures must look old."""
        return self.freshness is not None and self.freshness.is_old


def present_drift(*, environment: str, now: datetime) -> DriftRegion:
    """Judge the fleet; four queries, however large it is."""
    reports = read_reports(environment, now)
    fleet = fleet_drift(environment, now=reports.as_of)
    registered = {service.slug for service in list_service_headings(environment)}
    troubled = [service for service in fleet.services if service.drifts]
    return DriftRegion(
        environment=environment,
        freshness=reports.freshness,
        live=fleet.live,
        current=fleet.current,
        drifting=fleet.drifting,
        silent=fleet.silent,
        rejecting=_rejecting(fleet),
        services=len(fleet.services),
        rows=tuple(_row(service, registered) for service in troubled[:SHOWN_SERVICES]),
        more=max(0, len(troubled) - SHOWN_SERVICES),
    )


def _rejecting(fleet: FleetDrift) -> int:
    kinds = (drift.kind for service in fleet.services for drift in service.drifts)
    return sum(kind is DriftKind.REJECTED for kind in kinds)


def _row(service: ServiceDrift, registered: set[str]) -> DriftRow:
    shown = service.drifts[:SHOWN_INSTANCES]
    is_all = service.current == service.live
    return DriftRow(
        service=service.service,
        is_registered=service.service in registered,
        live=service.live,
        current=service.current,
        share=bar(
            service.current / service.live if service.live else None,
            tone="" if is_all else "warnv",
        ),
        pills=_pills(service),
        lines=tuple(_line(drift) for drift in shown),
        more=len(service.drifts) - len(shown),
        expected=service.drifts[0].expected if service.has_own_publication else None,
    )


def _pills(service: ServiceDrift) -> tuple[StatePill, ...]:
    counts = {kind: sum(drift.kind is kind for drift in service.drifts) for kind in DriftKind}
    return tuple(
        StatePill(tone, shape, f"{counts[kind]} {word}")
        for kind, (tone, shape, word) in _LOOK.items()
        if counts[kind]
    )


def _line(drift: Drift) -> DriftLine:
    return DriftLine(
        instance_id=drift.instance_id,
        pill=StatePill(*_LOOK[drift.kind]),
        text=_text(drift),
        late_s=drift.late_s,
        reason=drift.reason,
    )


def _text(drift: Drift) -> str:
    should = f"should be on #{drift.expected:,}"
    has = "nothing of ours" if drift.enforces is None else f"#{drift.enforces:,}"
    match drift.kind:
        case DriftKind.REJECTED:
            return f"rejects #{drift.expected:,} and keeps {has}"
        case DriftKind.UNKNOWN:
            return f"enforces “{drift.etag[:40]}”, which was never published here; {should}"
        case DriftKind.UNCONFIRMED:
            return f"asks for its policy and never says what it enforces; {should}"
        case DriftKind.SILENT:
            return f"stopped asking; it was on {has}"
        case DriftKind.BEHIND if drift.enforces == drift.expected:
            return f"is on {has} and missed its scheduled switch"
        case _:
            return f"is on {has}, {should}"

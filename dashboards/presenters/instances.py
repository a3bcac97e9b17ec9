"""Instances of one service and what each enforces; objectives and their budgets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.delivery.selectors import InstanceRow, list_instances
from controlplane.registry.selectors import get_service
from controlplane.slo.selectors import ObjectiveStatus, service_status
from dashboards.charts.geometry import Bar, bar
from dashboards.presenters import tones
from dashboards.presenters.states import StatePill

GONE_AFTER_S = 15 * 60  # a silent instance is listed this long, then it is history


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance."""

    instance_id: str
    state: StatePill
    sequence: int | None
    reason: str
    seen_s: float
    applied_at: datetime | None
    up_s: float
    sdk: str


@dataclass(frozen=True, slots=True)
class Instances:
    """The region with the instances of one service."""

    service_slug: str
    rows: tuple[Instance, ...]
    current: int
    live: int


@dataclass(frozen=True, slots=True)
class ObjectiveRow:
    """One objective with its budget."""

    status: ObjectiveStatus
    remaining_bar: Bar | None
    remaining_tone: str
    burn_tone: str


@dataclass(frozen=True, slots=True)
class Objectives:
    """The region with the objectives of one service."""

    service_slug: str
    rows: tuple[ObjectiveRow, ...]


def present_instances(*, environment: str, service_slug: str, now: datetime) -> Instances:
    """List live instances, and those that fell silent a short while ago.

    Raises:
        NotFound: no such service.
    """
    get_service(environment, service_slug)
    found = [
        row
        for row in list_instances(environment, service_slug, now=now)
        if (now - row.last_seen_at).total_seconds() <= GONE_AFTER_S
    ]
    found.sort(key=lambda row: (_rank(row), row.instance_id))
    live = [row for row in found if row.is_live]
    return Instances(
        service_slug=service_slug,
        rows=tuple(instance_of(row, now) for row in found),
        current=sum(row.is_current for row in live),
        live=len(live),
    )


def present_objectives(*, environment: str, service_slug: str, now: datetime) -> Objectives:
    """List the objectives with what is left of each budget.

    Raises:
        NotFound: no such service.
    """
    get_service(environment, service_slug)
    status = service_status(environment, now).get(service_slug)
    return Objectives(
        service_slug=service_slug,
        rows=tuple(_objective(each) for each in (() if status is None else status.objectives)),
    )


def _rank(row: InstanceRow) -> int:
    return (
        0 if row.state == "rejected" else 1 if not row.is_live else 2 if not row.is_current else 3
    )


def instance_of(row: InstanceRow, now: datetime) -> Instance:
    """One instance as rows of pages show it."""
    return Instance(
        instance_id=row.instance_id,
        state=_state(row),
        sequence=row.sequence,
        reason=row.reason,
        seen_s=(now - row.last_seen_at).total_seconds(),
        applied_at=row.applied_at,
        up_s=(row.last_seen_at - row.first_seen_at).total_seconds(),
        sdk=row.sdk,
    )


def _state(row: InstanceRow) -> StatePill:
    if not row.is_live:
        return StatePill("quiet", "◌", "silent")
    if row.state == "rejected":
        return StatePill("crit", "▲", "rejected")
    if row.is_current:
        return StatePill("ok", "●", "current")
    return StatePill("warn", "◆", "behind")


def _objective(status: ObjectiveStatus) -> ObjectiveRow:
    tone = tones.budget_tone(status.budget_remaining)
    burn = status.burn_1h
    return ObjectiveRow(
        status=status,
        remaining_bar=bar(status.budget_remaining, tone=tone),
        remaining_tone=tone,
        burn_tone=tones.BAD if (burn or 0) >= 6 else tones.WARN if (burn or 0) >= 1 else tones.CALM,
    )

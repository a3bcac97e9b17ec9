"""The Changes page: what is in force, what happened, and how to undo it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.access.domain.actors import Actor
from controlplane.delivery.domain.convergence import Convergence
from controlplane.delivery.selectors import convergence_many
from controlplane.policies.domain.diff import FieldChange, diff
from controlplane.policies.selectors import (
    Change,
    OverrideRow,
    list_changes,
    list_overrides_in_force,
    list_policy_layers,
)
from controlplane.policies.selectors.history import ACTIONS_BY_KIND
from controlplane.registry.selectors import (
    get_environment,
    get_service,
    list_service_headings,
)
from dashboards.presenters.canary import CanaryShown, present_canaries
from dashboards.presenters.change_words import change_words
from dashboards.presenters.changes_standing import Standing, standing_of
from dashboards.presenters.values import ChangedField, changed_fields

PAGE_SIZE = 50
RECENT = 6
SEARCHED_CHANGES = 500
# What has an end ahead of it; after the others nothing is left to end.
ENDING_BY_ITSELF = frozenset(
    {"override.opened", "override.extended", "canary.started", "canary.widened"}
)
_UNDOING = {"revert": "override.revert", "rollback": "version.publish", "end": "canary.end"}
KINDS = (
    ("override", "Overrides"),
    ("canary", "Canaries"),
    ("version", "Versions"),
    ("fleet_default", "Fleet defaults"),
)


@dataclass(frozen=True, slots=True)
class InForceRow:
    """One override in force."""

    override_id: int
    service: str
    reason: str
    opened_by: str
    starts_at: datetime
    ends_at: datetime
    left_s: float
    fields: tuple[ChangedField, ...]
    standing: Standing
    may_change: bool


@dataclass(frozen=True, slots=True)
class InForce:
    """The region with all overrides and canaries in force."""

    environment: str
    service: str
    rows: tuple[InForceRow, ...]
    canaries: tuple[CanaryShown, ...]


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One change."""

    change_id: int
    at: datetime
    actor: str
    words: str
    service: str
    reason: str
    fields: tuple[ChangedField, ...]
    sequence: int | None
    override_id: int | None
    canary_id: int | None
    undo_version: int | None
    undo: str
    applied: int | None
    live: int | None
    p99_s: float | None
    ends_at: datetime | None
    may_undo: bool


@dataclass(frozen=True, slots=True)
class History:
    """The region with past changes, newest first, one page of them."""

    environment: str
    rows: tuple[ChangeRow, ...]
    service: str
    kind: str
    who: str
    next_before: int | None
    is_first_page: bool

    @property
    def is_filtered(self) -> bool:
        """Whether a filter is on."""
        return bool(self.service or self.kind or self.who)


@dataclass(frozen=True, slots=True)
class Filters:
    """What the history may be filtered by."""

    services: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Recent:
    """The region with the last changes of one service."""

    service_slug: str
    rows: tuple[ChangeRow, ...]


def present_in_force(*, environment: str, service: str, actor: Actor, now: datetime) -> InForce:
    """List what is in force for a time, soonest end first; `service` may be empty for all."""
    teams = _teams(environment)
    rows = list_overrides_in_force(environment, service or None, now=now)
    opened = _opened(environment, rows, now)
    slugs = {row.service for row in rows}
    layers = list_policy_layers(get_environment(environment), slugs, now) if rows else {}
    shown = (
        _in_force(
            row,
            opened.get(row.id),
            standing_of(row, layers.get(row.service, [])),
            may_change=actor.may("override.revert", teams.get(row.service)),
            now=now,
        )
        for row in rows
    )
    return InForce(
        environment=environment,
        service=service,
        rows=tuple(sorted(shown, key=lambda row: row.left_s)),
        canaries=present_canaries(
            environment=environment, service=service, teams=teams, actor=actor, now=now
        ),
    )


def present_history(
    *,
    environment: str,
    service: str,
    kind: str,
    who: str,
    before: int | None,
    actor: Actor,
    now: datetime,
) -> History:
    """List one page of changes; a fixed number of queries, however many there are."""
    kind = kind if kind in ACTIONS_BY_KIND else ""
    found = list_changes(
        environment,
        service=service or None,
        actor=who or None,
        kind=kind or None,
        before_id=before,
        limit=PAGE_SIZE + 1,
        now=now,
    )
    shown = found[:PAGE_SIZE]
    return History(
        environment=environment,
        rows=_rows(shown, environment=environment, actor=actor, now=now),
        service=service,
        kind=kind,
        who=who,
        next_before=shown[-1].id if len(found) > PAGE_SIZE else None,
        is_first_page=before is None,
    )


def present_filters(environment: str) -> Filters:
    """List what the history may be filtered by."""
    return Filters(
        services=tuple(service.slug for service in list_service_headings(environment)), kinds=KINDS
    )


def present_recent(*, environment: str, service_slug: str, actor: Actor, now: datetime) -> Recent:
    """List the last changes of one service.

    Raises:
        NotFound: no such service.
    """
    get_service(environment, service_slug)
    found = list_changes(environment, service=service_slug, limit=RECENT, now=now)
    return Recent(
        service_slug=service_slug,
        rows=_rows(found, environment=environment, actor=actor, now=now),
    )


def _rows(
    changes: Sequence[Change], *, environment: str, actor: Actor, now: datetime
) -> tuple[ChangeRow, ...]:
    sequences = [change.sequence for change in changes if change.sequence is not None]
    spread = convergence_many(environment, sequences, now=now) if sequences else {}
    teams = _teams(environment)
    return tuple(_row(change, spread, teams, actor) for change in changes)


def _row(
    change: Change, spread: Mapping[int, Convergence], teams: Mapping[str, str], actor: Actor
) -> ChangeRow:
    reached = spread.get(change.sequence) if change.sequence is not None else None
    action = _UNDOING.get(change.undo or "")
    if change.undo == "rollback" and not change.service:
        action = "fleet_default.publish"
    number = change.version_number
    return ChangeRow(
        change_id=change.id,
        at=change.at,
        actor=change.actor,
        words=change_words(change),
        service=change.service,
        reason=change.reason,
        fields=changed_fields(change.changes),
        sequence=change.sequence,
        override_id=change.override_id,
        canary_id=change.canary_id,
        undo_version=number - 1 if change.undo == "rollback" and number else None,
        undo=change.undo or "",
        applied=None if reached is None else reached.applied,
        live=None if reached is None else reached.live,
        p99_s=None if reached is None else reached.p99_s,
        ends_at=change.ends_at if change.action in ENDING_BY_ITSELF else None,
        may_undo=action is not None and actor.may(action, teams.get(change.service)),
    )


def _opened(
    environment: str, rows: Sequence[OverrideRow], now: datetime
) -> dict[int, tuple[FieldChange, ...]]:
    """What each override changed when it was opened, from the change log."""
    if not rows:
        return {}
    since = min(row.starts_at for row in rows)
    found = list_changes(
        environment, kind="override.opened", since=since, limit=SEARCHED_CHANGES, now=now
    )
    return {change.override_id: change.changes for change in found if change.override_id}


def _in_force(
    row: OverrideRow,
    opened: tuple[FieldChange, ...] | None,
    standing: Standing,
    *,
    may_change: bool,
    now: datetime,
) -> InForceRow:
    # Too long ago to be found, or nothing differed: then what it sets, without what was before.
    changes = opened or diff({}, dict(row.patch))
    return InForceRow(
        override_id=row.id,
        service=row.service,
        reason=row.reason,
        opened_by=row.opened_by,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        left_s=(row.ends_at - now).total_seconds(),
        fields=changed_fields(changes),
        standing=standing,
        may_change=may_change,
    )


def _teams(environment: str) -> dict[str, str]:
    return {service.slug: service.team.slug for service in list_service_headings(environment)}

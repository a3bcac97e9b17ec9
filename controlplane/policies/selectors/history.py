"""How policies came to be: who changed what, why, when, and how to undo it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from django.db.models import Max

from controlplane.access.models import AuditEntry
from controlplane.access.selectors import list_entries
from controlplane.kernel.clock import utc_now
from controlplane.policies.domain.diff import FieldChange
from controlplane.policies.models import Canary, Override, PolicyVersion

ACTIONS_BY_KIND: Mapping[str, tuple[str, ...]] = {
    "override": (
        "override.opened",
        "override.extended",
        "override.reverted",
        "override.ended",
    ),
    "canary": (
        "canary.started",
        "canary.widened",
        "canary.promoted",
        "canary.ended",
        "canary.expired",
    ),
    "version": ("version.published", "canary.promoted"),
    "fleet_default": ("fleet_default.published",),
}
ACTIONS = tuple(dict.fromkeys(action for actions in ACTIONS_BY_KIND.values() for action in actions))

Undo = Literal["revert", "rollback", "end"]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a policy. `undo` says what takes it back now; None when nothing does."""

    id: int
    at: datetime
    actor: str
    action: str
    environment: str
    service: str
    reason: str
    changes: tuple[FieldChange, ...]
    sequence: int | None
    override_id: int | None
    canary_id: int | None
    ratio: float | None
    version_number: int | None
    undo: Undo | None
    ends_at: datetime | None


def list_changes(
    environment_slug: str,
    *,
    service: str | None = None,
    actor: str | None = None,
    kind: str | None = None,
    before_id: int | None = None,
    since: datetime | None = None,
    limit: int = 50,
    now: datetime | None = None,
) -> list[Change]:
    """Return changes of policies, newest first; five queries, however many there are.

    Args:
        service: only what changed this service: its own changes and the fleet default's.
        actor: a user's name; includes what the user's tokens did.
        kind: "override", "canary", "version", "fleet_default", or one action, such as
            "override.opened".
        before_id: the `id` of the last change seen, to page back.
        now: what `undo` is judged by; the present when left out.
    """
    entries = list_entries(
        environment=environment_slug,
        services=None if service is None else (service, ""),
        actor=actor,
        actions=_actions(kind),
        since=since,
        before_number=before_id,
        limit=limit,
    )
    undoable = _Undoable.among(entries, environment_slug, now or utc_now())
    return [_change(entry, undoable) for entry in entries]


@dataclass(frozen=True, slots=True)
class _Undoable:
    """What can still be undone: overrides and canaries in force, and versions that are current."""

    overrides: frozenset[int]
    canaries: frozenset[int]
    versions: Mapping[str, int]

    @classmethod
    def among(
        cls, entries: Iterable[AuditEntry], environment_slug: str, now: datetime
    ) -> _Undoable:
        override_ids = {entry.data.get("override_id") for entry in entries} - {None}
        in_force = Override.objects.filter(
            pk__in=override_ids, closed_at=None, ends_at__gt=now
        ).values_list("pk", flat=True)
        canary_ids = {entry.data.get("canary_id") for entry in entries} - {None}
        open_canaries = Canary.objects.filter(
            pk__in=canary_ids, closed_at=None, ends_at__gt=now
        ).values_list("pk", flat=True)
        newest = (
            PolicyVersion.objects.filter(environment__slug=environment_slug)
            .order_by()
            .values_list("service__slug")
            .annotate(newest=Max("number"))
        )
        return cls(
            frozenset(in_force),
            frozenset(open_canaries),
            {slug or "": number for slug, number in newest},
        )

    def undo_of(self, entry: AuditEntry) -> Undo | None:
        if entry.action in ("override.opened", "override.extended"):
            return "revert" if entry.data.get("override_id") in self.overrides else None
        if entry.action in ("canary.started", "canary.widened"):
            return "end" if entry.data.get("canary_id") in self.canaries else None
        if entry.action in ("version.published", "canary.promoted", "fleet_default.published"):
            number = int(entry.data.get("version_number", 0))
            is_current = self.versions.get(entry.service) == number
            return "rollback" if is_current and number > 1 else None
        return None


def _actions(kind: str | None) -> tuple[str, ...]:
    if kind is None:
        return ACTIONS
    return ACTIONS_BY_KIND.get(kind, tuple(action for action in ACTIONS if action == kind))


def _change(entry: AuditEntry, undoable: _Undoable) -> Change:
    data: Mapping[str, Any] = entry.data
    ends_at = data.get("ends_at")
    return Change(
        id=entry.number,
        at=entry.at,
        actor=entry.actor,
        action=entry.action,
        environment=entry.environment,
        service=entry.service,
        reason=entry.reason,
        changes=tuple(
            FieldChange(
                path=change["path"],
                before=change["before"],
                after=change["after"],
                kind=change["kind"],
            )
            for change in data.get("changes", ())
        ),
        sequence=data.get("sequence"),
        override_id=data.get("override_id"),
        canary_id=data.get("canary_id"),
        ratio=data.get("ratio"),
        version_number=data.get("version_number"),
        undo=undoable.undo_of(entry),
        ends_at=datetime.fromisoformat(ends_at) if ends_at else None,
    )

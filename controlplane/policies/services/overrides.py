"""Overrides: a patch on one service, for a limited time, that ends by itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from controlplane.access.domain.actors import Actor
from controlplane.access.services import audit
from controlplane.kernel.errors import Conflict, InvalidInput
from controlplane.policies.domain.validate import validate_patch
from controlplane.policies.models import Override
from controlplane.policies.selectors.effective import get_override
from controlplane.policies.selectors.sources import PolicySources, read_sources
from controlplane.policies.services.durations import duration_words
from controlplane.policies.services.plans import Plan, check_plan, plan_policies
from controlplane.policies.services.publications import publish_plans, publishing
from controlplane.policies.services.reasons import checked_reason
from controlplane.policies.services.records import change_rows
from controlplane.registry.models import Service

SHORTEST = timedelta(seconds=5)
CLOSED_AT_ONCE = 100


def open_override(
    *,
    actor: Actor,
    service: Service,
    patch: Mapping[str, Any],
    lasts: timedelta,
    reason: str,
    now: datetime,
) -> Override:
    """Patch the policy of a service from `now` until `now + lasts`, and publish both.

    Several may be in force: they apply in the order they were opened. A patch that changes
    nothing now is allowed: it holds a value against what happens below it.

    Args:
        patch: RFC 7396; null takes a value away, so that the layer below shows.
        lasts: at least 5 s, at most the setting TIDEGATE_OVERRIDE_MAX_S.

    Raises:
        Forbidden: the actor may not open overrides for the service's team.
        InvalidInput: a bad patch or duration, or a policy that would contradict itself, now or
            after an override ends.
    """
    actor.require("override.open", service.team.slug)
    checked = validate_patch(patch)
    why = checked_reason(reason)
    _check_duration(lasts, "lasts")
    with publishing():
        before = read_sources(service, now=now)
        override = Override(
            service=service,
            patch=checked,
            reason=why,
            opened_by=actor.name,
            starts_at=now,
            ends_at=now + lasts,
        )
        check_plan(plan_policies(before.with_override(override), now))
        override.save(force_insert=True)
        after = before.with_override(override)
        _publish(actor, "override.opened", override, why, now, before=before, after=after)
    return override


def extend_override(
    *, actor: Actor, override: Override, by: timedelta, reason: str, now: datetime
) -> Override:
    """Let an override end later by `by`, and publish that; return it as it is now.

    Raises:
        Forbidden: the actor may not extend overrides for the service's team.
        InvalidInput: less than 5 s, or an end further away than an override may last.
        Conflict: it has ended or was reverted.
    """
    actor.require("override.extend", override.service.team.slug)
    why = checked_reason(reason)
    if by < SHORTEST:
        raise InvalidInput(f"by must be at least {duration_words(SHORTEST)}", field="by")
    with publishing():
        present = _in_force(override, now)
        service = present.service
        before = read_sources(service, now=now)
        present.ends_at += by
        _check_duration(present.ends_at - now, "by")
        after = before.with_override(present)
        check_plan(plan_policies(after, now))
        present.save(update_fields=["ends_at"])
        _publish(actor, "override.extended", present, why, now, before=before, after=after)
    return present


def revert_override(*, actor: Actor, override: Override, reason: str, now: datetime) -> Override:
    """End an override now, and publish the policy without it; return it as it is now.

    Raises:
        Forbidden: the actor may not revert overrides for the service's team.
        InvalidInput: what remains would contradict itself, such as a later override that was
            made for this one; revert that one first.
        Conflict: it has ended or was reverted before.
    """
    actor.require("override.revert", override.service.team.slug)
    why = checked_reason(reason)
    with publishing():
        present = _in_force(override, now)
        before = read_sources(present.service, now=now)
        after = before.without(present)
        check_plan(plan_policies(after, now))
        present.closed_at, present.closed_by = now, actor.name
        present.save(update_fields=["closed_at", "closed_by"])
        _publish(actor, "override.reverted", present, why, now, before=before, after=after)
    return present


def close_expired_overrides(*, actor: Actor, now: datetime) -> int:
    """Mark overrides past their end as closed, with an audit entry each; return how many.

    Nothing is published: instances left them behind at their end, by the clock. A backlog, such as
    after the worker was away, is closed a hundred at a time: whoever waits to publish comes in
    between, and what is closed stays closed if this is ended before it is through.
    """
    closed = 0
    ended = Override.objects.filter(closed_at=None, ends_at__lte=now)
    while ended.exists():
        closed += _close_batch(ended, actor, now)
    return closed


def _close_batch(ended: QuerySet[Override], actor: Actor, now: datetime) -> int:
    with publishing():
        batch = list(
            ended.select_related("service__environment").order_by("ends_at", "id")[:CLOSED_AT_ONCE]
        )
        for override in batch:
            override.closed_at, override.closed_by = override.ends_at, actor.name
            override.save(update_fields=["closed_at", "closed_by"])
            _record(actor, "override.ended", override, "its time was up", now, {})
    return len(batch)


def _in_force(override: Override, now: datetime) -> Override:
    # Read again under the lock: what the caller holds may be minutes old.
    present = get_override(override.pk)
    if present.closed_at is not None:
        raise Conflict(f"override {present.pk} was closed by {present.closed_by} before")
    if present.ends_at <= now:
        raise Conflict(f"override {present.pk} ended at {present.ends_at:%H:%M:%S} UTC")
    return present


def _publish(
    actor: Actor,
    action: str,
    override: Override,
    reason: str,
    now: datetime,
    *,
    before: PolicySources,
    after: PolicySources,
) -> None:
    service = override.service
    plan: Plan = plan_policies(after, now)
    publication = publish_plans(
        service.environment,
        {service.slug: plan},
        cause=action,
        actor_name=actor.name,
        reason=reason,
        now=now,
    )[service.slug]
    changes = change_rows(before.resolve_at(now).policy, plan.policy)
    _record(
        actor,
        action,
        override,
        reason,
        now,
        {"sequence": publication.sequence, "changes": changes},
    )


def _record(
    actor: Actor,
    action: str,
    override: Override,
    reason: str,
    now: datetime,
    data: Mapping[str, Any],
) -> None:
    audit.record(
        actor=actor,
        action=action,
        subject=f"override:{override.pk}",
        at=now,
        environment=override.service.environment.slug,
        service=override.service.slug,
        reason=reason,
        data={
            **data,
            "override_id": override.pk,
            "patch": override.patch,
            "ends_at": override.ends_at.isoformat(),
        },
    )


def _check_duration(lasts: timedelta, field: str) -> None:
    longest = timedelta(seconds=settings.TIDEGATE.override_max_s)
    if not SHORTEST <= lasts <= longest:
        raise InvalidInput(
            f"an override lasts {duration_words(SHORTEST)} to {duration_words(longest)} from now",
            field=field,
        )

"""Canaries: the next version of a service, on a part of its instances first.

An instance never sees a sequence go back. Whatever changes a service with an open canary
publishes to everybody and then, with a higher sequence, to the canary; whatever closes a canary
publishes to everybody first and then ratio 0 to the canary, in one transaction. When time ends a
canary, its instances change over by the clock and keep its sequence; the next publication of the
service moves them to everybody's, whoever makes it, and the sweep makes one when nobody does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError

from controlplane.access.domain.actors import Actor
from controlplane.access.services import audit
from controlplane.kernel.errors import Conflict, InvalidInput, PreconditionFailed
from controlplane.kernel.ids import new_nonce
from controlplane.policies.domain.validate import validate_document
from controlplane.policies.models import Canary, PolicyVersion
from controlplane.policies.selectors.canaries import get_canary
from controlplane.policies.selectors.publications import latest_publication
from controlplane.policies.selectors.sources import read_sources
from controlplane.policies.services.durations import duration_words
from controlplane.policies.services.plans import Plan, check_plan, plan_policies
from controlplane.policies.services.publications import publish_plans, publishing
from controlplane.policies.services.publishing import check_expected, next_version
from controlplane.policies.services.reasons import checked_reason
from controlplane.policies.services.records import change_rows
from controlplane.registry.models import Service

SHORTEST, LONGEST = timedelta(seconds=5), timedelta(hours=24)
DEFAULT_LASTS = timedelta(hours=1)

_TIME_WAS_UP = "its time was up"


def start_canary(
    *,
    actor: Actor,
    service: Service,
    document: Mapping[str, Any],
    ratio: float,
    lasts: timedelta,
    reason: str,
    now: datetime,
    expected_number: int | None = None,
) -> Canary:
    """Serve `document` instead of the version to a part of the instances until `now + lasts`.

    The others keep the publication they have. Which instances come first is another choice for
    every canary; those that do not name themselves are never among them.

    Args:
        document: sparse; the version it would become.
        ratio: more than 0, at most 1.
        lasts: 5 s to 24 h.
        expected_number: the version the author started from, 0 for none; None does not check.

    Raises:
        Forbidden: the actor may not start canaries for the service's team.
        InvalidInput: a bad document, ratio or duration, or a policy that would contradict itself.
        Conflict: another canary of the service is in force.
        PreconditionFailed: another version was published since.
    """
    actor.require("canary.start", service.team.slug)
    checked, why = validate_document(document), checked_reason(reason)
    _check_ratio(ratio)
    if not SHORTEST <= lasts <= LONGEST:
        raise InvalidInput(
            f"a canary lasts {duration_words(SHORTEST)} to {duration_words(LONGEST)}", field="lasts"
        )
    try:
        with publishing():
            sources = read_sources(service, now=now)
            check_expected(expected_number, sources.version_number, f"{service}")
            is_first = sources.canary is None
            if sources.canary is not None:
                _refuse_second(sources.canary, now)
                _close_expired(sources.canary, actor, now, sequence=None)
            canary = Canary(
                service=service,
                document=checked,
                ratio=ratio,
                salt=new_nonce(),
                reason=why,
                author=actor.name,
                started_at=now,
                ends_at=now + lasts,
            )
            after = replace(sources, canary=canary)
            check_plan(plan_policies(after, now))
            canary.save(force_insert=True)
            plan = plan_policies(after, now)
            # Nobody leaves another canary for everybody's policy, which is out already.
            is_alone = is_first and _is_published(service)
            plan = replace(plan, is_for_canary_alone=is_alone)
            changes = change_rows(plan.policy, plan.canary_policy)
            _publish(actor, "canary.started", canary, plan, why, now, {"changes": changes})
    except IntegrityError:
        # one_open_canary_per_service decided who was first.
        raise Conflict(f"another canary of {service} was started at the same moment") from None
    return canary


def widen_canary(
    *,
    actor: Actor,
    canary: Canary,
    ratio: float,
    reason: str,
    now: datetime,
    expected_ratio: float | None = None,
) -> Canary:
    """Let a canary reach more instances: those it reached, and others; return it as it is now.

    Args:
        ratio: more than the present one, at most 1.
        expected_ratio: what the author saw; None does not check.

    Raises:
        Forbidden: the actor may not widen canaries for the service's team.
        InvalidInput: not a larger ratio, or a policy that would contradict itself.
        Conflict: it was promoted or has ended.
        PreconditionFailed: it was widened since.
    """
    actor.require("canary.widen", canary.service.team.slug)
    why = checked_reason(reason)
    _check_ratio(ratio)
    with publishing():
        present = _in_force(canary, now, expected_ratio)
        before = present.ratio
        if ratio <= before:
            raise InvalidInput(
                f"ratio must be more than {before:g}: a canary only widens; end it to go back",
                field="ratio",
            )
        present.ratio = ratio
        plan = plan_policies(replace(read_sources(present.service, now=now), canary=present), now)
        check_plan(plan)
        present.save(update_fields=["ratio"])
        plan = replace(plan, is_for_canary_alone=_is_published(present.service))
        data = {"ratio_before": before, "changes": []}
        _publish(actor, "canary.widened", present, plan, why, now, data)
    return present


def promote_canary(
    *,
    actor: Actor,
    canary: Canary,
    reason: str,
    now: datetime,
    expected_ratio: float | None = None,
) -> PolicyVersion:
    """Make a canary's document the next version, for every instance, in one transaction.

    Raises:
        Forbidden: the actor may not promote canaries for the service's team.
        InvalidInput: a policy that would contradict itself.
        Conflict: it was promoted or has ended.
        PreconditionFailed: it was widened since `expected_ratio`.
    """
    actor.require("canary.promote", canary.service.team.slug)
    why = checked_reason(reason)
    with publishing():
        present = _in_force(canary, now, expected_ratio)
        service = present.service
        sources = read_sources(service, now=now)
        version = next_version(
            sources, service, document=present.document, author=actor.name, reason=why, now=now
        )
        _close(present, Canary.PROMOTED, actor, now)
        before = sources.resolve_at(now).policy
        plan = plan_policies(replace(sources, version=version, canary=present), now)
        check_plan(plan)
        version.save(force_insert=True)
        data = {
            "version_number": version.number,
            "changes": change_rows(before, plan.policy),
        }
        _publish(actor, "canary.promoted", present, plan, why, now, data)
    return version


def end_canary(
    *,
    actor: Actor,
    canary: Canary,
    reason: str,
    now: datetime,
    expected_ratio: float | None = None,
) -> Canary:
    """Take a canary back from every instance it reached; return it as it is now.

    Raises:
        Forbidden: the actor may not end canaries for the service's team.
        Conflict: it was promoted or has ended.
        PreconditionFailed: it was widened since `expected_ratio`.
    """
    actor.require("canary.end", canary.service.team.slug)
    why = checked_reason(reason)
    with publishing():
        present = _in_force(canary, now, expected_ratio)
        before = read_sources(present.service, now=now)
        _close(present, Canary.ENDED, actor, now)
        # Not checked: everybody else has that policy already, and the way back is always open.
        plan = plan_policies(replace(before, canary=present), now)
        changes = change_rows(before.resolve_canary_at(now).policy, plan.policy)
        _publish(actor, "canary.ended", present, plan, why, now, {"changes": changes})
    return present


def close_expired_canaries(*, actor: Actor, now: datetime) -> int:
    """Close canaries past their end, and move their instances to everybody's publication.

    Return how many. Each is a transaction of its own. Late is harmless: by the clock, their
    instances have had everybody's policy since the end.
    """
    closed = 0
    for pk in Canary.objects.filter(closed_at=None, ends_at__lte=now).values_list("pk", flat=True):
        with publishing():
            canary = get_canary(pk)
            if canary.closed_at is not None:
                continue  # somebody closed it while this waited for the lock
            service = canary.service
            plan = plan_policies(read_sources(service, now=now), now)
            publication = publish_plans(
                service.environment,
                {service.slug: plan},
                cause="canary.expired",
                actor_name=actor.name,
                reason=_TIME_WAS_UP,
                now=now,
            )[service.slug]
            _close_expired(canary, actor, now, sequence=publication.sequence)
            closed += 1
    return closed


def _check_ratio(ratio: float) -> None:
    if not math.isfinite(ratio) or not 0.0 < ratio <= 1.0:
        raise InvalidInput(
            "ratio must be more than 0 and at most 1: the part of the instances", field="ratio"
        )


def _refuse_second(canary: Canary, now: datetime) -> None:
    if canary.is_in_force(now):
        raise Conflict(
            f"canary {canary.pk} is open on {canary.service} until {canary.ends_at:%H:%M:%S} UTC: "
            "promote it or end it first"
        )


def _in_force(canary: Canary, now: datetime, expected_ratio: float | None) -> Canary:
    # Read again under the lock: what the caller holds may be minutes old.
    present = get_canary(canary.pk)
    if present.closed_at is not None:
        raise Conflict(f"canary {present.pk} was {present.outcome} by {present.closed_by} before")
    if present.ends_at <= now:
        raise Conflict(f"canary {present.pk} ended at {present.ends_at:%H:%M:%S} UTC")
    if expected_ratio is not None and present.ratio != expected_ratio:
        raise PreconditionFailed(
            f"canary {present.pk} has ratio {present.ratio:g}, not {expected_ratio:g}: "
            "read it again, then decide again"
        )
    return present


def _is_published(service: Service) -> bool:
    return latest_publication(service.environment.slug, service.slug) is not None


def _close(canary: Canary, outcome: str, actor: Actor, at: datetime) -> None:
    canary.closed_at, canary.closed_by, canary.outcome = at, actor.name, outcome
    canary.save(update_fields=["closed_at", "closed_by", "outcome"])


def _close_expired(canary: Canary, actor: Actor, now: datetime, *, sequence: int | None) -> None:
    _close(canary, Canary.EXPIRED, actor, canary.ends_at)
    _record(actor, "canary.expired", canary, _TIME_WAS_UP, now, {"sequence": sequence})


def _publish(
    actor: Actor,
    action: str,
    canary: Canary,
    plan: Plan,
    reason: str,
    now: datetime,
    data: Mapping[str, Any],
) -> None:
    service = canary.service
    publication = publish_plans(
        service.environment,
        {service.slug: plan},
        cause=action,
        actor_name=actor.name,
        reason=reason,
        now=now,
    )[service.slug]
    _record(actor, action, canary, reason, now, {**data, "sequence": publication.sequence})


def _record(
    actor: Actor,
    action: str,
    canary: Canary,
    reason: str,
    now: datetime,
    data: Mapping[str, Any],
) -> None:
    service = canary.service
    # What is over has no end to come: the history shows `ends_at` as "until".
    ends = {} if canary.closed_at is not None else {"ends_at": canary.ends_at.isoformat()}
    audit.record(
        actor=actor,
        action=action,
        subject=f"canary:{canary.pk}",
        at=now,
        environment=service.environment.slug,
        service=service.slug,
        reason=reason,
        data={
            **data,
            "canary_id": canary.pk,
            "document": canary.document,
            "ratio": canary.ratio,
            **ends,
        },
    )

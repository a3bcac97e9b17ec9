"""Publishing versions of a service and fleet defaults of an environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import IntegrityError

from controlplane.access.domain.actors import Actor
from controlplane.access.services import audit
from controlplane.kernel.errors import Conflict, PreconditionFailed
from controlplane.policies.domain.validate import validate_document
from controlplane.policies.models import PolicyVersion
from controlplane.policies.selectors.effective import get_fleet_default, get_version
from controlplane.policies.selectors.publications import list_published_slugs
from controlplane.policies.selectors.sources import (
    PolicySources,
    newest_fleet_default,
    read_fleet_sources,
    read_sources,
)
from controlplane.policies.services.plans import Plan, check_plan, plan_policies
from controlplane.policies.services.publications import (
    FLEET_DEFAULT,
    publish_plans,
    publishing,
)
from controlplane.policies.services.reasons import checked_reason
from controlplane.policies.services.records import change_rows
from controlplane.registry.models import Environment, Service


def publish_version(
    *,
    actor: Actor,
    service: Service,
    document: Mapping[str, Any],
    reason: str,
    now: datetime,
    expected_number: int | None = None,
) -> PolicyVersion:
    """Make `document` the next version of a service and publish it, in one transaction.

    Args:
        document: sparse; what it leaves out comes from the fleet default.
        expected_number: the version the author started from, 0 for none; None does not check.

    Raises:
        Forbidden: the actor may not publish for the service's team.
        InvalidInput: a bad document, or one that contradicts itself with the other layers.
        PreconditionFailed: another version was published since.
        Conflict: a canary of the service is open: promote it or end it first.
    """
    actor.require("version.publish", service.team.slug)
    checked = validate_document(document)
    why = checked_reason(reason)
    try:
        with publishing():
            sources = read_sources(service, now=now)
            check_expected(expected_number, sources.version_number, f"{service}")
            _check_no_canary(sources, now)
            version = next_version(
                sources, service, document=checked, author=actor.name, reason=why, now=now
            )
            before = sources.resolve_at(now).policy
            plan = plan_policies(replace(sources, version=version), now)
            check_plan(plan)
            version.save(force_insert=True)
            publication = publish_plans(
                service.environment,
                {service.slug: plan},
                cause="version.published",
                actor_name=actor.name,
                reason=why,
                now=now,
            )[service.slug]
            audit.record(
                actor=actor,
                action="version.published",
                subject=f"version:{service.slug}:{version.number}",
                at=now,
                environment=service.environment.slug,
                service=service.slug,
                reason=why,
                data={
                    "version_number": version.number,
                    "sequence": publication.sequence,
                    "changes": change_rows(before, plan.policy),
                },
            )
    except IntegrityError:
        # one_version_per_service_and_number decided who was first.
        raise Conflict(f"another version of {service} was published at the same moment") from None
    return version


def publish_fleet_default(
    *,
    actor: Actor,
    environment: Environment,
    document: Mapping[str, Any],
    reason: str,
    now: datetime,
    expected_number: int | None = None,
) -> PolicyVersion:
    """Make `document` the fleet default and publish every service it reaches, in one transaction.

    Raises:
        Forbidden: the actor may not publish fleet defaults.
        InvalidInput: a bad document, or one that makes the policy of some service contradict
            itself; nothing is published then, for any service.
        PreconditionFailed: another fleet default was published since.
    """
    actor.require("fleet_default.publish")
    checked = validate_document(document)
    why = checked_reason(reason)
    try:
        with publishing():
            present = newest_fleet_default(environment)
            number = present.number if present is not None else 0
            check_expected(expected_number, number, f"the fleet default of {environment}")
            version = PolicyVersion(
                environment=environment,
                service=None,
                number=number + 1,
                document=checked,
                reason=why,
                author=actor.name,
                created_at=now,
            )
            before = PolicySources(present).resolve_at(now).policy
            plans = _fleet_plans(environment, version, now)
            version.save(force_insert=True)
            publications = publish_plans(
                environment,
                plans,
                cause="fleet_default.published",
                actor_name=actor.name,
                reason=why,
                now=now,
            )
            audit.record(
                actor=actor,
                action="fleet_default.published",
                subject=f"fleet_default:{environment.slug}:{version.number}",
                at=now,
                environment=environment.slug,
                reason=why,
                data={
                    "version_number": version.number,
                    "sequence": publications[FLEET_DEFAULT].sequence,
                    "services": len(plans) - 1,
                    "changes": change_rows(before, plans[FLEET_DEFAULT].policy),
                },
            )
    except IntegrityError:
        # one_fleet_default_per_environment_and_number decided who was first.
        raise Conflict("another fleet default was published at the same moment") from None
    return version


def roll_back_version(
    *, actor: Actor, service: Service, to_number: int, reason: str, now: datetime
) -> PolicyVersion:
    """Publish an older version's document again, under a new number.

    Raises:
        NotFound: the service has no version of that number.
        Forbidden, InvalidInput, Conflict: as `publish_version`.
    """
    older = get_version(service, to_number)
    return publish_version(
        actor=actor, service=service, document=older.document, reason=reason, now=now
    )


def roll_back_fleet_default(
    *, actor: Actor, environment: Environment, to_number: int, reason: str, now: datetime
) -> PolicyVersion:
    """Publish an older fleet default's document again, under a new number.

    Raises:
        NotFound: the environment has no fleet default of that number.
        Forbidden, InvalidInput: as `publish_fleet_default`.
    """
    older = get_fleet_default(environment, to_number)
    return publish_fleet_default(
        actor=actor, environment=environment, document=older.document, reason=reason, now=now
    )


def _fleet_plans(
    environment: Environment, version: PolicyVersion, now: datetime
) -> dict[str, Plan]:
    default_plan = plan_policies(PolicySources(version), now)
    check_plan(default_plan, service_slug="the fleet default")
    plans = {FLEET_DEFAULT: default_plan}
    for slug, sources in read_fleet_sources(environment, now=now).items():
        if sources.is_fleet_default_only:
            plans[slug] = default_plan
            continue
        plans[slug] = plan_policies(replace(sources, fleet_default=version), now)
        check_plan(plans[slug], service_slug=slug)
    # A name that was published once keeps receiving publications, whoever removed it since.
    for slug in sorted(list_published_slugs(environment.slug) - plans.keys()):
        plans[slug] = default_plan
    return plans


def next_version(
    sources: PolicySources,
    service: Service,
    *,
    document: Mapping[str, Any],
    author: str,
    reason: str,
    now: datetime,
) -> PolicyVersion:
    """Return what would be the next version of a service, not stored yet."""
    return PolicyVersion(
        environment=service.environment,
        service=service,
        number=sources.version_number + 1,
        document=document,
        reason=reason,
        author=author,
        created_at=now,
    )


def _check_no_canary(sources: PolicySources, now: datetime) -> None:
    canary = sources.canary
    if canary is not None and canary.is_in_force(now):
        raise Conflict(
            f"canary {canary.pk} is open on {canary.service} until {canary.ends_at:%H:%M:%S} UTC: "
            "promote it or end it first, then publish"
        )


def check_expected(expected: int | None, present: int, what: str) -> None:
    """Return if the author started from the present version, or did not say.

    Raises:
        PreconditionFailed: another one was published since.
    """
    if expected is not None and expected != present:
        raise PreconditionFailed(
            f"{what} is at version {present}, not {expected}: read it again, then decide again"
        )

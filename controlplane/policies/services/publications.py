"""Publications: what the config API serves, numbered by one fleet-wide growing sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from controlplane.access.domain.actors import Actor
from controlplane.access.services import audit
from controlplane.kernel.channels import Channel
from controlplane.kernel.hints import hint_after_commit
from controlplane.kernel.ids import new_nonce
from controlplane.policies.models import Publication, SequenceCounter
from controlplane.policies.selectors.publications import latest_publication
from controlplane.policies.selectors.sources import (
    PolicySources,
    newest_fleet_default,
    read_sources,
)
from controlplane.policies.services.plans import Plan, PlannedStep, check_plan, plan_policies
from controlplane.registry.models import Environment
from controlplane.registry.selectors import get_service, list_environments

FLEET_DEFAULT = ""


@contextmanager
def publishing() -> Iterator[None]:
    """One transaction that may publish, alone: every other one waits until it ends.

    The lock on the sequence is taken before anything is read, so what a publication is made of
    cannot change under it, and sequences become visible in the order they were handed out.
    Lock order: the sequence before the audit head.
    """
    with transaction.atomic():
        SequenceCounter.objects.get_or_create(pk=1)
        SequenceCounter.objects.select_for_update().get(pk=1)
        yield


def publish(
    environment: Environment,
    service_slug: str,
    *,
    cause: str,
    actor_name: str,
    reason: str,
    now: datetime,
) -> Publication:
    """Publish what is in force on a service, or the fleet default when `service_slug` is "".

    Call it inside `publishing()`.

    Raises:
        NotFound: the environment has no registered service of that name.
        InvalidInput: the effective policy contradicts itself, now or after an override ends.
    """
    if service_slug == FLEET_DEFAULT:
        sources = PolicySources(newest_fleet_default(environment))
    else:
        sources = read_sources(get_service(environment.slug, service_slug), now=now)
    plan = plan_policies(sources, now)
    check_plan(plan, service_slug=service_slug)
    return publish_plans(
        environment,
        {service_slug: plan},
        cause=cause,
        actor_name=actor_name,
        reason=reason,
        now=now,
    )[service_slug]


def publish_plans(
    environment: Environment,
    plans: Mapping[str, Plan],
    *,
    cause: str,
    actor_name: str,
    reason: str,
    now: datetime,
) -> dict[str, Publication]:
    """Publish checked plans, one sequence each, in one statement; return them by service.

    Call it inside `publishing()`. The hint goes out after the commit, or not at all.
    """
    last = _take_sequences(len(plans))
    publications = {
        slug: Publication(
            environment=environment.slug,
            service_slug=slug,
            version_number=plan.version_number,
            cause=cause,
            actor=actor_name,
            reason=reason,
            issued_at=now,
            **_content(sequence, plan),
        )
        for sequence, (slug, plan) in enumerate(plans.items(), start=last - len(plans) + 1)
    }
    Publication.objects.bulk_create(publications.values(), batch_size=200)
    hint_after_commit(
        Channel.PUBLISHED,
        [
            {"environment": environment.slug, "service": slug, "sequence": publication.sequence}
            for slug, publication in publications.items()
        ],
    )
    return publications


def publish_missing_defaults(*, actor: Actor, now: datetime) -> int:
    """Publish the built-in policy in environments that have no publication yet; return how many.

    So a service of a new environment gets safe limits before anybody publishes a fleet default.
    """
    missing = [
        environment
        for environment in list_environments()
        if latest_publication(environment.slug, FLEET_DEFAULT) is None
    ]
    for environment in missing:
        with publishing():
            if latest_publication(environment.slug, FLEET_DEFAULT) is not None:
                continue  # somebody published it while this waited for the lock
            reason = "a new environment starts from the built-in policy"
            publication = publish(
                environment,
                FLEET_DEFAULT,
                cause="environment.published",
                actor_name=actor.name,
                reason=reason,
                now=now,
            )
            audit.record(
                actor=actor,
                action="environment.published",
                subject=f"environment:{environment.slug}",
                at=now,
                environment=environment.slug,
                reason=reason,
                data={"sequence": publication.sequence},
            )
    return len(missing)


def _take_sequences(count: int) -> int:
    counter = SequenceCounter.objects.select_for_update().get(pk=1)
    counter.value += count
    counter.save(update_fields=["value"])
    return counter.value


def _content(sequence: int, plan: Plan) -> dict[str, Any]:
    nonce = new_nonce()
    return {
        "sequence": sequence,
        "etag": f"{sequence}-0-{nonce}",
        "policy": plan.policy,
        "scheduled": [
            _scheduled(step, f"{sequence}-{number}-{nonce}")
            for number, step in enumerate(plan.steps[1:], start=1)
        ],
    }


def _scheduled(step: PlannedStep, etag: str) -> dict[str, Any]:
    at = step.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return {"at": at, "reason": step.reason, "etag": etag, "policy": step.policy}

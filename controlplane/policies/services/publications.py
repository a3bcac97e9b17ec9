"""Publications: what the config API serves, numbered by one fleet-wide growing sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.db import InternalError, transaction

from controlplane.access.domain.actors import Actor
from controlplane.access.services import audit
from controlplane.kernel.channels import Channel
from controlplane.kernel.errors import Unavailable
from controlplane.kernel.hints import hint_after_commit
from controlplane.kernel.ids import new_nonce
from controlplane.policies.models import Publication, SequenceCounter
from controlplane.policies.selectors.publications import latest_publication
from controlplane.policies.selectors.sources import (
    PolicySources,
    newest_fleet_default,
    read_sources,
)
from controlplane.policies.services.plans import (
    CanaryPlan,
    Plan,
    PlannedStep,
    check_plan,
    plan_policies,
)
from controlplane.registry.models import Environment
from controlplane.registry.selectors import get_service, list_environments

FLEET_DEFAULT = ""
_IDLE_IN_TRANSACTION = "25P03"  # PostgreSQL's code; it has ended the session and what it held


@contextmanager
def publishing() -> Iterator[None]:
    """One transaction that may publish, alone: every other one waits until it ends.

    The lock on the sequence is taken before anything is read, so what a publication is made of
    cannot change under it, and sequences become visible in the order they were handed out.
    Lock order: the sequence before the audit head.

    Raises:
        Unavailable: this stood still for so long that the database gave the lock to others.
    """
    try:
        with transaction.atomic():
            SequenceCounter.objects.get_or_create(pk=1)
            SequenceCounter.objects.select_for_update().get(pk=1)
            yield
    except InternalError as error:
        if getattr(error.__cause__, "sqlstate", None) != _IDLE_IN_TRANSACTION:
            raise
        raise Unavailable(
            "the database gave up this change, because nothing of it came for several seconds; "
            "nothing was changed"
        ) from error


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
    """Publish checked plans in one statement, one sequence for each cohort of each service.

    Return the publications to everybody by service, or the canary's where the plan is for it
    alone. Call it inside `publishing()`. The hint goes out after the commit, or not at all.
    """
    parts = [(slug, plan, part) for slug, plan in plans.items() for part in _parts(plan)]
    last = _take_sequences(len(parts))
    publications = [
        Publication(
            environment=environment.slug,
            service_slug=slug,
            version_number=plan.version_number,
            cause=cause,
            actor=actor_name,
            reason=reason,
            issued_at=now,
            **_cohort(part),
            **_content(sequence, part.steps),
        )
        for sequence, (slug, plan, part) in enumerate(parts, start=last - len(parts) + 1)
    ]
    Publication.objects.bulk_create(publications, batch_size=200)
    hint_after_commit(
        Channel.PUBLISHED,
        [
            {
                "environment": environment.slug,
                "service": publication.service_slug,
                "sequence": publication.sequence,
            }
            for publication in publications
        ],
    )
    # Of a service's two the first stays, which is everybody's.
    return {publication.service_slug: publication for publication in reversed(publications)}


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


def _parts(plan: Plan) -> list[Plan | CanaryPlan]:
    """The publications of a plan in the order of their sequences.

    The canary's comes last. Whoever leaves a canary then finds a higher sequence than its last
    one, and whoever joins finds a higher one than everybody's: sequences only grow.
    """
    parts: list[Plan | CanaryPlan] = [] if plan.is_for_canary_alone else [plan]
    return parts if plan.canary is None else [*parts, plan.canary]


def _cohort(part: Plan | CanaryPlan) -> dict[str, Any]:
    if isinstance(part, Plan):
        return {"cohort": Publication.STABLE}
    return {"cohort": Publication.CANARY, "ratio": part.ratio, "salt": part.salt}


def _content(sequence: int, steps: Sequence[PlannedStep]) -> dict[str, Any]:
    nonce = new_nonce()
    return {
        "sequence": sequence,
        "etag": f"{sequence}-0-{nonce}",
        "policy": steps[0].policy,
        "scheduled": [
            _scheduled(step, f"{sequence}-{number}-{nonce}")
            for number, step in enumerate(steps[1:], start=1)
        ],
    }


def _scheduled(step: PlannedStep, etag: str) -> dict[str, Any]:
    at = step.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return {"at": at, "reason": step.reason, "etag": etag, "policy": step.policy}

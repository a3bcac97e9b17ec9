"""Moving the sequence on after the database went back in time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from controlplane.access.domain.actors import Actor
from controlplane.access.services import audit
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.ids import new_nonce
from controlplane.policies.models import SequenceCounter
from controlplane.policies.selectors.publications import list_published_slugs
from controlplane.policies.selectors.sources import (
    PolicySources,
    newest_fleet_default,
    read_fleet_sources,
)
from controlplane.policies.services.plans import CanaryPlan, Plan, plan_policies
from controlplane.policies.services.publications import (
    FLEET_DEFAULT,
    publish_plans,
    publishing,
)
from controlplane.policies.services.reasons import checked_reason
from controlplane.registry.models import Environment
from controlplane.registry.selectors import list_environments

HIGHEST = 10**15
"""Higher ones are no mistake of a counter; JSON's readers are exact up to nine times that."""


@dataclass(frozen=True, slots=True)
class RaisedSequence:
    """The sequence before and after, and how many services were published again."""

    before: int
    after: int
    services: int


def raise_sequence(*, actor: Actor, above: int, reason: str, now: datetime) -> RaisedSequence:
    """Hand out sequences above `above` from now on, and publish everything in force again.

    For a database that was restored from a backup: instances hold higher sequences than it hands
    out, so they refuse what it publishes, and policies that it does not know any more. Afterwards
    every instance follows what this database holds; a canary that it does not know is over. Done
    twice, it publishes twice and changes nothing else; a sequence that is higher already stays.

    Raises:
        Forbidden: the actor may not publish for the whole fleet.
        InvalidInput: `above` is negative, or so high that it cannot be one of ours.
    """
    actor.require("fleet_default.publish")
    why = checked_reason(reason)
    if not 0 <= above <= HIGHEST:
        raise InvalidInput(f"above must be 0 to {HIGHEST}, not {above}", field="above")
    with publishing():
        counter = SequenceCounter.objects.get(pk=1)
        before = counter.value
        counter.value = max(before, above)
        counter.save(update_fields=["value"])
        count = 0
        for environment in list_environments():
            plans = _plans_in_force(environment, now)
            publish_plans(
                environment,
                plans,
                cause="sequence.raised",
                actor_name=actor.name,
                reason=why,
                now=now,
            )
            count += len(plans)
        counter.refresh_from_db()
        audit.record(
            actor=actor,
            action="sequence.raised",
            subject="sequence",
            at=now,
            reason=why,
            data={"before": before, "above": above, "after": counter.value, "services": count},
        )
    return RaisedSequence(before, counter.value, count)


def _plans_in_force(environment: Environment, now: datetime) -> dict[str, Plan]:
    """Return what each published name gets as things stand; they were checked when published.

    Delivery may serve a canary that started after the backup: whatever it is, ratio 0 ends it, and
    its instances go to everybody's publication instead of staying on a policy that is lost.
    """
    default_plan = plan_policies(PolicySources(newest_fleet_default(environment)), now)
    sources = read_fleet_sources(environment, now=now)
    plans = {FLEET_DEFAULT: default_plan}
    for slug in sorted(list_published_slugs(environment.slug) - {FLEET_DEFAULT}):
        plan = plan_policies(sources[slug], now) if slug in sources else default_plan
        lost = CanaryPlan("a lost canary", 0.0, new_nonce(), plan.steps)
        plans[slug] = plan if plan.canary is not None else replace(plan, canary=lost)
    return plans

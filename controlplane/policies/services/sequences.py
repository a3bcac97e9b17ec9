"""Moving the sequence on after the database went back in time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from controlplane.access.domain.actors import Actor
from controlplane.access.services import audit
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.ids import is_slug, new_nonce
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
from controlplane.registry.selectors import get_environment, list_environments

HIGHEST = 10**15
"""Higher ones are no mistake of a counter; JSON's readers are exact up to nine times that."""


@dataclass(frozen=True, slots=True)
class RaisedSequence:
    """The sequence before and after, and how many services were published again."""

    before: int
    after: int
    services: int


def raise_sequence(
    *,
    actor: Actor,
    above: int,
    reason: str,
    now: datetime,
    lost: Iterable[tuple[str, str]] = (),
) -> RaisedSequence:
    """Hand out sequences above `above` from now on, and publish everything in force again.

    For a database that was restored from a backup: instances hold higher sequences than it hands
    out, so they refuse what it publishes, and policies that it does not know any more. Afterwards
    the instances of every service that this database knows, or that is named in `lost`, follow
    what it holds; a canary that it does not know is over. Those of any other service keep the
    policy that is lost. Done twice, it publishes twice and changes nothing else; a sequence that is
    higher already stays.

    Args:
        lost: environments and services that were first published after the backup; they get the
            fleet default, as a service does that nobody registered.

    Raises:
        Forbidden: the actor may not publish for the whole fleet.
        InvalidInput: `above` is negative, or so high that it cannot be one of ours; or a lost
            service has a name that none can have.
        NotFound: a lost service is of an environment that does not exist.
    """
    actor.require("fleet_default.publish")
    why = checked_reason(reason)
    if not 0 <= above <= HIGHEST:
        raise InvalidInput(f"above must be 0 to {HIGHEST}, not {above}", field="above")
    named = _checked_names(lost)
    with publishing():
        counter = SequenceCounter.objects.get(pk=1)
        before = counter.value
        counter.value = max(before, above)
        counter.save(update_fields=["value"])
        count = 0
        for environment in list_environments():
            plans = _plans_in_force(environment, named.get(environment.slug, set()), now)
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
            data={
                "before": before,
                "above": above,
                "after": counter.value,
                "services": count,
                "lost": [
                    f"{slug}/{name}" for slug in sorted(named) for name in sorted(named[slug])
                ],
            },
        )
    return RaisedSequence(before, counter.value, count)


def _checked_names(lost: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    named: dict[str, set[str]] = {}
    for environment, service in lost:
        if not is_slug(service):
            raise InvalidInput(f"no service can be named {service!r}", field="service")
        named.setdefault(get_environment(environment).slug, set()).add(service)
    return named


def _plans_in_force(
    environment: Environment, lost: Iterable[str], now: datetime
) -> dict[str, Plan]:
    """Return what each published or lost name gets as things stand, checked when published.

    Delivery may serve a canary that started after the backup: whatever it is, ratio 0 ends it, and
    its instances go to everybody's publication instead of staying on a policy that is lost.
    """
    default_plan = plan_policies(PolicySources(newest_fleet_default(environment)), now)
    sources = read_fleet_sources(environment, now=now)
    plans = {FLEET_DEFAULT: default_plan}
    names = list_published_slugs(environment.slug).union(lost)
    for slug in sorted(names - {FLEET_DEFAULT}):
        plan = plan_policies(sources[slug], now) if slug in sources else default_plan
        over = CanaryPlan("a lost canary", 0.0, new_nonce(), plan.steps)
        plans[slug] = plan if plan.canary is not None else replace(plan, canary=over)
    return plans

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from controlplane.access.domain.roles import Role
from controlplane.access.models import AuditEntry, Team
from controlplane.kernel.errors import Forbidden, InvalidInput, PreconditionFailed
from controlplane.policies.models import Publication
from controlplane.policies.selectors import (
    current_fleet_default,
    effective_policy,
    list_fleet_defaults,
)
from controlplane.policies.services import publish_fleet_default, roll_back_fleet_default
from controlplane.registry.models import Environment, Service
from tests.access.actors import ADMIN, OPERATOR, actor_with
from tests.policies.builders import (
    backoff,
    deadline,
    newest,
    open_on,
    publish_on,
    shed,
    stored_state,
)


def publish_default(
    environment: Environment, now: datetime, document: object, **changes: object
) -> None:
    values: dict[str, object] = {
        "actor": ADMIN, "environment": environment, "document": document,
        "reason": "for everybody", "now": now,
    }  # fmt: skip
    publish_fleet_default(**{**values, **changes})  # type: ignore[arg-type]


def add_services(environment: Environment, team: Team, now: datetime, count: int) -> None:
    Service.objects.bulk_create(
        Service(environment=environment, slug=f"service-{index}", team=team, registered_at=now)
        for index in range(count)
    )


def test_a_fleet_default_publishes_every_service_and_itself(
    prod: Environment, checkout: Service, team: Team, now: datetime
) -> None:
    add_services(prod, team, now, 2)
    publish_on(checkout, now, deadline(1500))
    override = open_on(checkout, now, shed(2))

    publish_default(prod, now, {**deadline(2500), "lifecycle": {"drain": {"timeout_s": 10}}})

    rows = Publication.objects.filter(cause="fleet_default.published").order_by("sequence")
    assert {row.service_slug for row in rows} == {"", "checkout", "service-0", "service-1"}
    assert [row.sequence for row in rows] == [3, 4, 5, 6]
    policy = newest("checkout").policy
    assert policy["inbound"]["deadline_ms"] == 1500
    assert policy["lifecycle"]["drain"]["timeout_s"] == 10
    assert len(newest("checkout").scheduled) == 1
    assert newest("service-0").policy["inbound"]["deadline_ms"] == 2500
    assert newest("").version_number == 0
    leaf = effective_policy(checkout, now).leaves["lifecycle.drain.timeout_s"]
    assert leaf.layer == "fleet default v1"
    assert override.pk
    assert AuditEntry.objects.filter(action="fleet_default.published").count() == 1


def test_a_fleet_default_that_breaks_one_service_publishes_none(
    prod: Environment, checkout: Service, team: Team, now: datetime
) -> None:
    add_services(prod, team, now, 3)
    publish_on(checkout, now, backoff(base_ms=1500))
    before = stored_state()

    with pytest.raises(InvalidInput, match="the effective policy of checkout would contradict"):
        publish_default(prod, now, backoff(max_ms=1000))

    assert stored_state() == before


def test_a_name_that_nobody_registers_any_more_still_follows_the_fleet_default(
    prod: Environment, checkout: Service, now: datetime
) -> None:
    publish_default(prod, now, deadline(2000))
    checkout.delete()

    publish_default(prod, now, deadline(1000))

    assert newest("checkout").policy["inbound"]["deadline_ms"] == 1000


@pytest.mark.parametrize("count", [2, 40])
def test_publishing_takes_the_same_queries_however_many_services(
    prod: Environment,
    team: Team,
    now: datetime,
    count: int,
    django_assert_num_queries: Callable[..., object],
) -> None:
    add_services(prod, team, now, count)
    publish_default(prod, now, {})

    with django_assert_num_queries(21):  # type: ignore[attr-defined]
        publish_default(prod, now, deadline(2000))


def test_only_a_fleet_wide_admin_may_publish_it(prod: Environment, now: datetime) -> None:
    for actor in (OPERATOR, actor_with(Role.ADMIN, "payments-team")):
        with pytest.raises(Forbidden, match="for the whole fleet"):
            publish_default(prod, now, {}, actor=actor)

    assert Publication.objects.count() == 0


def test_a_stale_expected_number_is_refused(prod: Environment, now: datetime) -> None:
    publish_default(prod, now, deadline(2000), expected_number=0)

    with pytest.raises(PreconditionFailed, match="the fleet default of prod is at version 1"):
        publish_default(prod, now, deadline(1000), expected_number=0)


def test_rolling_back_publishes_the_older_one_again(prod: Environment, now: datetime) -> None:
    publish_default(prod, now, deadline(2000))
    publish_default(prod, now, deadline(1000))

    roll_back_fleet_default(actor=ADMIN, environment=prod, to_number=1, reason="undo", now=now)

    current = current_fleet_default(prod)
    assert current is not None
    assert (current.number, current.document) == (3, deadline(2000))
    assert [version.number for version in list_fleet_defaults(prod)] == [3, 2, 1]

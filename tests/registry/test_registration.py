from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError

from controlplane.access.domain.roles import Role
from controlplane.access.models import AuditEntry, Team
from controlplane.access.services import audit
from controlplane.kernel.errors import Forbidden, InvalidInput, NotFound
from controlplane.registry.models import Dependency, Endpoint, Environment, Instance, Service
from controlplane.registry.selectors import (
    get_environment,
    get_service,
    list_services,
)
from controlplane.registry.services.instances import (
    InstanceSighting,
    prune_silent_instances,
    record_instances,
)
from controlplane.registry.services.registration import (
    ensure_dependency,
    ensure_endpoint,
    ensure_environment,
    register_service,
)
from tests.access.actors import ADMIN, OPERATOR, VIEWER, actor_with


def register(environment: Environment, team: Team, now: datetime, **changes: object) -> Service:
    values: dict[str, object] = {
        "actor": ADMIN, "environment": environment, "slug": "payments", "team": team, "now": now,
    }  # fmt: skip
    return register_service(**{**values, **changes})  # type: ignore[arg-type]


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("number").values_list("action", flat=True))


def test_registering_twice_changes_and_audits_only_what_differs(
    prod: Environment, team: Team, now: datetime
) -> None:
    first = register(prod, team, now, tier=1)
    again = register(prod, team, now + timedelta(hours=1), tier=1)
    changed = register(prod, team, now, tier=3)

    assert first.pk == again.pk == changed.pk
    assert get_service("prod", "payments").tier == 3
    assert actions() == ["service.registered", "service.changed"]
    assert AuditEntry.objects.get(number=2).data == {"changes": {"tier": {"before": 1, "after": 3}}}


def test_endpoints_and_dependencies_are_ensured_and_audited(
    prod: Environment, checkout: Service, team: Team, now: datetime
) -> None:
    payments = register(prod, team, now)
    for _ in range(2):
        ensure_endpoint(actor=ADMIN, service=checkout, method="POST", route="/orders", now=now)
        ensure_dependency(actor=ADMIN, service=checkout, name="payments", target=payments, now=now)

    assert str(Endpoint.objects.get()) == "POST /orders"
    assert Dependency.objects.get().target == payments
    assert actions() == ["service.registered", "endpoint.registered", "dependency.registered"]


def test_an_environment_is_made_once_and_may_be_renamed(db: None, now: datetime) -> None:
    for name in ("Staging", "Staging", "Staging EU"):
        ensure_environment(actor=ADMIN, slug="staging", name=name, now=now)

    assert get_environment("staging").name == "Staging EU"
    assert actions() == ["environment.registered", "environment.changed"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slug": "Payments"}, "slug"),
        ({"slug": "-payments"}, "slug"),
        ({"slug": "x" * 64}, "slug"),
        ({"slug": ""}, "slug"),
        ({"tier": 0}, "tier"),
        ({"tier": 5}, "tier"),
        ({"tier": True}, "tier"),
        ({"runbook_url": "javascript:alert(1)"}, "runbook_url"),
        ({"dialect": "Not A Dialect"}, "dialect"),
        ({"description": "x" * 2001}, "description"),
    ],
    ids=str,
)
def test_a_bad_service_is_refused_and_nothing_stored(
    prod: Environment, team: Team, now: datetime, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        register(prod, team, now, **changes)

    assert caught.value.field == field
    assert Service.objects.count() == 0
    assert AuditEntry.objects.count() == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": "post"}, "method"),
        ({"route": "orders"}, "route"),
        ({"route": "/two words"}, "route"),
        ({"criticality": "high"}, "criticality"),
    ],
    ids=str,
)
def test_a_bad_endpoint_is_refused(
    checkout: Service, now: datetime, changes: dict[str, str], field: str
) -> None:
    values = {"method": "POST", "route": "/orders", **changes}

    with pytest.raises(InvalidInput) as caught:
        ensure_endpoint(actor=ADMIN, service=checkout, now=now, **values)

    assert caught.value.field == field


def test_a_service_depends_neither_on_itself_nor_on_another_environment(
    checkout: Service, team: Team, now: datetime
) -> None:
    staging = ensure_environment(actor=ADMIN, slug="staging", name="Staging", now=now)
    elsewhere = register(staging, team, now)

    with pytest.raises(InvalidInput, match="itself"):
        ensure_dependency(actor=ADMIN, service=checkout, name="x", target=checkout, now=now)
    with pytest.raises(InvalidInput, match="environment"):
        ensure_dependency(actor=ADMIN, service=checkout, name="x", target=elsewhere, now=now)


@pytest.mark.parametrize("actor", [VIEWER, OPERATOR], ids=lambda actor: actor.name)
def test_only_an_admin_may_change_the_registry(
    prod: Environment, team: Team, now: datetime, actor: object
) -> None:
    with pytest.raises(Forbidden):
        register(prod, team, now, actor=actor)


def test_a_service_is_not_taken_from_another_team(
    prod: Environment, checkout: Service, now: datetime
) -> None:
    other = Team.objects.create(slug="search-team", name="Search")
    thief = actor_with(Role.ADMIN, "search-team")

    with pytest.raises(Forbidden, match="payments-team"):
        register(prod, other, now, actor=thief, slug="checkout")

    assert get_service("prod", "checkout").team.slug == "payments-team"


def test_nothing_is_registered_when_it_cannot_be_audited(
    prod: Environment, team: Team, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(**_: object) -> None:
        raise IntegrityError("the audit log is full")

    monkeypatch.setattr(audit, "record", failing)

    with pytest.raises(Exception, match="at the same moment"):
        register(prod, team, now)

    assert Service.objects.count() == 0


def test_what_does_not_exist_is_not_found(prod: Environment) -> None:
    with pytest.raises(NotFound, match="no environment 'nope'"):
        get_environment("nope")
    with pytest.raises(NotFound, match="prod has no registered service 'nope'"):
        get_service("prod", "nope")


@pytest.mark.parametrize("count", [3, 30])
def test_listing_services_takes_the_same_queries_however_many(
    prod: Environment,
    team: Team,
    now: datetime,
    count: int,
    django_assert_num_queries: Callable[..., object],
) -> None:
    services = [register(prod, team, now, slug=f"service-{index}") for index in range(count)]
    for service in services[1:]:
        ensure_endpoint(actor=ADMIN, service=service, method="GET", route="/", now=now)
        ensure_dependency(
            actor=ADMIN, service=service, name="service-0", target=services[0], now=now
        )

    with django_assert_num_queries(4):  # type: ignore[attr-defined]
        for service in list_services("prod"):
            [str(endpoint) for endpoint in service.endpoints.all()]
            [str(dependency.target) for dependency in service.dependencies.all()]
            assert service.team.slug
            assert service.environment.slug


def test_a_sighting_makes_an_instance_once_and_keeps_its_first_time(
    checkout: Service, now: datetime
) -> None:
    later = now + timedelta(seconds=10)

    first = record_instances([InstanceSighting("prod", "checkout", "a", now)])
    again = record_instances(
        [
            InstanceSighting("prod", "checkout", "a", later),
            InstanceSighting("prod", "checkout", "a", now),
            InstanceSighting("prod", "nobody", "b", later),
        ]
    )

    assert again["prod", "checkout", "a"] == first["prod", "checkout", "a"]
    instance = Instance.objects.get(pk=first["prod", "checkout", "a"])
    assert (instance.first_seen_at, instance.last_seen_at) == (now, later)


def test_silent_instances_are_pruned(checkout: Service, now: datetime) -> None:
    record_instances(
        [
            InstanceSighting("prod", "checkout", "old", now - timedelta(days=2)),
            InstanceSighting("prod", "checkout", "new", now),
        ]
    )

    assert prune_silent_instances(silent_since=now - timedelta(days=1)) == 1
    assert Instance.objects.get().instance_id == "new"

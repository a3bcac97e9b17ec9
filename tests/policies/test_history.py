from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from controlplane.access.domain.actors import Actor, Grant
from controlplane.access.domain.roles import Role
from controlplane.access.models import AuditEntry
from controlplane.policies.selectors import list_changes
from controlplane.policies.services import (
    extend_override,
    promote_canary,
    publish_fleet_default,
    revert_override,
    widen_canary,
)
from controlplane.registry.models import Environment, Service
from controlplane.registry.services.registration import ensure_endpoint
from tests.access.actors import ADMIN, OPERATOR
from tests.policies.builders import deadline, open_on, publish_on, shed, start_on


def test_a_change_says_who_what_why_when_and_how_to_undo_it(
    checkout: Service, now: datetime
) -> None:
    override = open_on(checkout, now, shed(2), minutes=30)

    (change,) = list_changes("prod", now=now)

    assert (change.actor, change.action, change.at) == ("oncall", "override.opened", now)
    assert (change.service, change.reason) == ("checkout", "checkout is drowning")
    assert [(each.path, each.before, each.after) for each in change.changes] == [
        ("inbound.shedding.level", 0, 2)
    ]
    assert (change.override_id, change.sequence) == (override.pk, 1)
    assert (change.undo, change.ends_at) == ("revert", now + timedelta(minutes=30))


def test_a_canary_is_undone_by_ending_it_and_a_promoted_one_by_rolling_back(
    checkout: Service, now: datetime
) -> None:
    publish_on(checkout, now, deadline(1000))
    first = start_on(checkout, now, shed(1), ratio=0.1)
    widen_canary(actor=OPERATOR, canary=first, ratio=0.5, reason="calm", now=now)

    widened, started, _ = list_changes("prod", now=now)
    promote_canary(actor=OPERATOR, canary=first, reason="it held", now=now)
    promoted, *past = list_changes("prod", kind="canary", now=now)

    assert (widened.undo, started.undo) == ("end", "end")
    assert (widened.canary_id, widened.ratio, started.ratio) == (first.pk, 0.5, 0.1)
    assert (promoted.undo, promoted.version_number) == ("rollback", 2)
    assert [change.undo for change in past] == [None, None]
    assert (promoted.ends_at, past[0].ends_at) == (None, first.ends_at)
    assert [change.action for change in list_changes("prod", kind="version", now=now)] == [
        "canary.promoted",
        "version.published",
    ]


def test_a_canary_that_time_ended_cannot_be_undone(checkout: Service, now: datetime) -> None:
    start_on(checkout, now, minutes=10)

    (change,) = list_changes("prod", now=now + timedelta(minutes=10))

    assert change.undo is None


def test_only_what_can_still_be_undone_offers_it(checkout: Service, now: datetime) -> None:
    publish_on(checkout, now, deadline(1000))
    publish_on(checkout, now, deadline(2000))
    ended = open_on(checkout, now, minutes=1)
    reverted = open_on(checkout, now)
    extended = open_on(checkout, now)
    revert_override(actor=OPERATOR, override=reverted, reason="x", now=now)
    extend_override(actor=OPERATOR, override=extended, by=timedelta(minutes=5), reason="x", now=now)

    changes = list_changes("prod", now=now + timedelta(minutes=1))

    assert [(change.action, change.override_id, change.undo) for change in changes] == [
        ("override.extended", extended.pk, "revert"),
        ("override.reverted", reverted.pk, None),
        ("override.opened", extended.pk, "revert"),
        ("override.opened", reverted.pk, None),
        ("override.opened", ended.pk, None),
        ("version.published", None, "rollback"),
        ("version.published", None, None),
    ]


def test_changes_are_filtered_by_service_actor_kind_and_time(
    prod: Environment, checkout: Service, now: datetime
) -> None:
    later = now + timedelta(hours=1)
    token = Actor("oncall/ci", "token", (Grant(Role.OPERATOR),))
    other = Service.objects.create(
        environment=prod, slug="search", team=checkout.team, registered_at=now
    )
    publish_fleet_default(
        actor=ADMIN, environment=prod, document=deadline(2500), reason="x", now=now
    )
    override = open_on(checkout, later)
    revert_override(actor=token, override=override, reason="x", now=later)
    open_on(other, later)

    def actions(**filters: object) -> list[str]:
        found = list_changes("prod", now=later, **filters)  # type: ignore[arg-type]
        return [f"{change.service}:{change.action}" for change in found]

    opened, reverted = "checkout:override.opened", "checkout:override.reverted"
    default = ":fleet_default.published"
    assert actions(service="checkout") == [reverted, opened, default]
    assert actions(actor="oncall") == ["search:override.opened", reverted, opened]
    assert actions(kind="override.reverted") == [reverted]
    assert actions(kind="fleet_default") == [default]
    assert actions(kind="no such kind") == []
    assert actions(since=later, service="checkout") == [reverted, opened]
    assert list_changes("staging") == []


def test_changes_page_back_without_a_gap(checkout: Service, now: datetime) -> None:
    for milliseconds in range(1000, 1700, 100):
        publish_on(checkout, now, deadline(milliseconds))

    first = list_changes("prod", limit=3)
    second = list_changes("prod", limit=3, before_id=first[-1].id)

    assert [change.version_number for change in (*first, *second)] == [7, 6, 5, 4, 3, 2]


def test_the_registry_does_not_clutter_the_history_of_policies(
    checkout: Service, now: datetime
) -> None:
    ensure_endpoint(actor=ADMIN, service=checkout, method="GET", route="/", now=now)

    assert AuditEntry.objects.count() == 1
    assert list_changes("prod") == []


@pytest.mark.parametrize("count", [2, 20])
def test_listing_changes_takes_the_same_queries_however_many(
    checkout: Service,
    now: datetime,
    count: int,
    django_assert_num_queries: Callable[..., object],
) -> None:
    for index in range(count):
        open_on(checkout, now, shed(index % 4))

    with django_assert_num_queries(3):  # type: ignore[attr-defined]
        assert len(list_changes("prod", now=now)) == count

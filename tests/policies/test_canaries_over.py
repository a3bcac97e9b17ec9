"""Canaries that time ended: what moves their instances, and who closes them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from controlplane.access.models import AuditEntry
from controlplane.kernel.errors import Conflict
from controlplane.policies.selectors import get_canary
from controlplane.policies.services import (
    publish_fleet_default,
    publish_version,
)
from controlplane.policies.services.canaries import close_expired_canaries
from controlplane.policies.tasks import close_expired_canaries as close_task
from controlplane.registry.models import Environment, Service
from tests.access.actors import ADMIN, OPERATOR
from tests.policies.builders import (
    cohorts,
    end,
    newest,
    newest_canary,
    open_on,
    promote,
    publish_on,
    shed,
    start_on,
    stored_state,
    widen,
)


def test_a_version_after_a_canary_that_time_ended_moves_its_instances(
    checkout: Service, now: datetime
) -> None:
    start_on(checkout, now, minutes=10)
    later = now + timedelta(minutes=10)

    publish_on(checkout, later, shed(3))

    assert cohorts()[-2:] == [("", None, 3), ("canary", 0.0, 3)]


@pytest.mark.parametrize("act", ["override", "fleet default"])
def test_any_publication_after_the_end_moves_the_instances_of_a_canary(
    prod: Environment, checkout: Service, now: datetime, act: str
) -> None:
    start_on(checkout, now, shed(2), minutes=10)
    later = now + timedelta(minutes=10)

    if act == "override":
        open_on(checkout, later, shed(1))
    else:
        publish_fleet_default(
            actor=ADMIN, environment=prod, document=shed(1), reason="calm", now=later
        )

    assert cohorts()[-2:] == [("", None, 1), ("canary", 0.0, 1)]


def test_a_canary_after_one_that_time_ended_closes_it_and_moves_its_instances(
    checkout: Service, now: datetime
) -> None:
    first = start_on(checkout, now, shed(2), minutes=10)

    second = start_on(checkout, now + timedelta(minutes=10), shed(1))

    assert cohorts()[-2:] == [("", None, 0), ("canary", 0.1, 1)]
    assert newest_canary().salt == second.salt
    closed = get_canary(first.pk)
    assert (closed.outcome, closed.closed_at) == ("expired", first.ends_at)
    assert AuditEntry.objects.filter(action="canary.expired").count() == 1


def test_the_sweep_closes_a_canary_past_its_end_once_and_unites_its_cohorts(
    checkout: Service, now: datetime
) -> None:
    canary = start_on(checkout, now, shed(2), minutes=10)
    last = newest_canary().sequence
    later = now + timedelta(minutes=11)

    assert close_expired_canaries(actor=ADMIN, now=now) == 0
    assert close_expired_canaries(actor=ADMIN, now=later) == 1
    assert close_expired_canaries(actor=ADMIN, now=later) == 0

    assert cohorts()[-2:] == [("", None, 0), ("canary", 0.0, 0)]
    assert last < newest().sequence
    assert get_canary(canary.pk).closed_at == canary.ends_at
    entry = AuditEntry.objects.get(action="canary.expired")
    assert entry.data["sequence"] == newest().sequence


def test_the_tidying_task_closes_canaries(checkout: Service, now: datetime) -> None:
    canary = start_on(checkout, now - timedelta(days=4000))

    close_task()

    assert get_canary(canary.pk).outcome == "expired"


def test_what_is_over_can_be_neither_widened_nor_promoted_nor_ended(
    checkout: Service, now: datetime
) -> None:
    taken_back = start_on(checkout, now)
    end(taken_back, now)
    expired = start_on(checkout, now, minutes=1)
    later = now + timedelta(minutes=1)
    before = stored_state()

    for canary, message in (
        (taken_back, f"canary {taken_back.pk} was ended by oncall before"),
        (expired, f"canary {expired.pk} ended at 02:15:00 UTC"),
    ):
        with pytest.raises(Conflict, match=message):
            widen(canary, later, 0.5)
        with pytest.raises(Conflict, match=message):
            promote(canary, later)
        with pytest.raises(Conflict, match=message):
            end(canary, later)

    assert stored_state() == before


def test_publishing_again_once_it_ended_is_allowed(checkout: Service, now: datetime) -> None:
    end(start_on(checkout, now), now)

    version = publish_version(
        actor=OPERATOR, service=checkout, document=shed(1), reason="now", now=now
    )

    assert version.number == 1
    assert cohorts()[-1] == ("", None, 1)

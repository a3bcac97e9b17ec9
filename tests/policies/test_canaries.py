"""The life of a canary: started, widened, promoted or ended, and what is published to whom."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.access.models import AuditEntry
from controlplane.policies.selectors import find_canary_in_force, get_canary
from controlplane.policies.services import (
    publish_fleet_default,
    revert_override,
)
from controlplane.registry.models import Environment, Service
from tests.access.actors import ADMIN, OPERATOR
from tests.policies.builders import (
    cohorts,
    deadline,
    end,
    level_of,
    newest,
    newest_canary,
    open_on,
    promote,
    publish_on,
    shed,
    start_on,
    widen,
)


def test_a_canary_is_published_to_its_cohort_alone_and_ends_by_the_clock(
    checkout: Service, now: datetime
) -> None:
    publish_on(checkout, now, deadline(2000))
    before = newest()

    canary = start_on(checkout, now, shed(1), ratio=0.1, minutes=30)

    publication = newest_canary()
    (step,) = publication.scheduled
    assert newest() == before
    assert (publication.ratio, publication.salt) == (0.1, canary.salt)
    assert publication.sequence == before.sequence + 1
    assert publication.version_number == 1
    assert level_of(publication.policy) == 1
    assert publication.policy["inbound"]["deadline_ms"] == 3000  # instead of the version
    assert step["at"] == "2026-11-02T02:44:00Z"
    assert step["reason"] == f"canary {canary.pk} ends"
    assert step["policy"] == before.policy
    assert canary.is_in_force(now + timedelta(minutes=29))
    assert not canary.is_in_force(now + timedelta(minutes=30))


def test_the_first_canary_of_a_service_publishes_what_everybody_else_gets(
    checkout: Service, now: datetime
) -> None:
    start_on(checkout, now)

    assert cohorts() == [("", None, 0), ("canary", 0.1, 1)]


def test_starting_is_told_with_what_it_changes_and_for_whom(
    checkout: Service, now: datetime
) -> None:
    canary = start_on(checkout, now, ratio=0.25)

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.subject) == ("canary.started", f"canary:{canary.pk}")
    assert entry.data["changes"] == [
        {"path": "inbound.shedding.level", "before": 0, "after": 1, "kind": "changed"}
    ]
    assert entry.data["ratio"] == 0.25
    assert entry.data["ends_at"] == "2026-11-02T03:14:00+00:00"


def test_each_canary_puts_other_instances_first(checkout: Service, now: datetime) -> None:
    first = start_on(checkout, now)
    end(first, now)

    assert start_on(checkout, now).salt != first.salt


def test_widening_publishes_to_the_cohort_alone_and_keeps_its_salt(
    checkout: Service, now: datetime
) -> None:
    canary = start_on(checkout, now)

    wider = widen(canary, now + timedelta(minutes=5), 0.5)

    assert cohorts() == [("", None, 0), ("canary", 0.1, 1), ("canary", 0.5, 1)]
    assert newest_canary().salt == canary.salt == wider.salt
    assert newest_canary().scheduled[0]["at"] == "2026-11-02T03:14:00Z"
    data = AuditEntry.objects.get(action="canary.widened").data
    assert (data["ratio_before"], data["ratio"]) == (0.1, 0.5)


def test_promoting_makes_it_the_next_version_for_everybody_and_empties_the_cohort(
    checkout: Service, now: datetime
) -> None:
    publish_on(checkout, now, deadline(2000))
    canary = start_on(checkout, now, shed(2))

    version = promote(canary, now + timedelta(minutes=10))

    assert (version.number, version.document) == (2, shed(2))
    assert cohorts()[-2:] == [("", None, 2), ("canary", 0.0, 2)]
    assert newest().sequence < newest_canary().sequence
    assert newest().version_number == newest_canary().version_number == 2
    assert newest().scheduled == newest_canary().scheduled == []
    closed = get_canary(canary.pk)
    assert (closed.outcome, closed.closed_by) == ("promoted", "oncall")
    assert find_canary_in_force(checkout, now=now) is None
    entry = AuditEntry.objects.get(action="canary.promoted")
    assert entry.data["version_number"] == 2
    assert entry.data["sequence"] == newest().sequence
    assert [row["path"] for row in entry.data["changes"]] == [
        "inbound.deadline_ms",
        "inbound.shedding.level",
    ]


def test_ending_takes_it_back_with_a_higher_sequence_than_its_own(
    checkout: Service, now: datetime
) -> None:
    canary = start_on(checkout, now, shed(2))
    last = newest_canary().sequence

    ended = end(canary, now + timedelta(minutes=1))

    assert ended.outcome == "ended"
    assert cohorts()[-2:] == [("", None, 0), ("canary", 0.0, 0)]
    assert last < newest().sequence < newest_canary().sequence
    entry = AuditEntry.objects.get(action="canary.ended")
    assert entry.data["changes"] == [
        {"path": "inbound.shedding.level", "before": 2, "after": 0, "kind": "changed"}
    ]


def test_an_override_reaches_the_canary_too_and_ends_in_both(
    checkout: Service, now: datetime
) -> None:
    publish_on(checkout, now, deadline(2000))
    canary = start_on(checkout, now, deadline(1000), minutes=30)

    override = open_on(checkout, now, shed(3), minutes=10)

    everybody, few = newest(), newest_canary()
    assert everybody.sequence < few.sequence
    assert (level_of(everybody.policy), level_of(few.policy)) == (3, 3)
    assert everybody.policy["inbound"]["deadline_ms"] == 2000
    assert few.policy["inbound"]["deadline_ms"] == 1000
    assert [step["reason"] for step in everybody.scheduled] == [f"override {override.pk} ends"]
    assert [
        (step["reason"], level_of(step["policy"]), step["policy"]["inbound"]["deadline_ms"])
        for step in few.scheduled
    ] == [
        (f"override {override.pk} ends", 0, 1000),
        (f"canary {canary.pk} ends", 0, 2000),
    ]
    revert_override(actor=OPERATOR, override=override, reason="calm", now=now)
    assert (level_of(newest().policy), level_of(newest_canary().policy)) == (0, 0)


def test_an_override_outlasts_a_canary_in_its_cohort(checkout: Service, now: datetime) -> None:
    canary = start_on(checkout, now, deadline(1000), minutes=10)
    override = open_on(checkout, now, shed(3), minutes=30)

    assert [
        (step["reason"], level_of(step["policy"]), step["policy"]["inbound"]["deadline_ms"])
        for step in newest_canary().scheduled
    ] == [
        (f"canary {canary.pk} ends", 3, 3000),
        (f"override {override.pk} ends", 0, 3000),
    ]


def test_what_ends_together_with_a_canary_is_one_step(checkout: Service, now: datetime) -> None:
    canary = start_on(checkout, now)
    override = open_on(checkout, now, deadline(2000))

    (step,) = newest_canary().scheduled
    assert step["reason"] == f"override {override.pk} and canary {canary.pk} end"


def test_a_fleet_default_is_published_to_both_cohorts(
    prod: Environment, checkout: Service, now: datetime
) -> None:
    start_on(checkout, now, shed(2))

    publish_fleet_default(
        actor=ADMIN, environment=prod, document=deadline(2500), reason="faster", now=now
    )

    assert cohorts()[-2:] == [("", None, 0), ("canary", 0.1, 2)]
    assert newest().policy["inbound"]["deadline_ms"] == 2500
    assert newest_canary().policy["inbound"]["deadline_ms"] == 2500

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F

from controlplane.access.models import AuditEntry
from controlplane.kernel.errors import Conflict, Forbidden, InvalidInput, PreconditionFailed
from controlplane.policies.models import Canary, PolicyVersion, Publication
from controlplane.policies.selectors import find_canary_in_force, get_canary
from controlplane.policies.services import (
    end_canary,
    promote_canary,
    publish_fleet_default,
    publish_version,
    revert_override,
    roll_back_version,
    start_canary,
    widen_canary,
)
from controlplane.policies.services.canaries import close_expired_canaries
from controlplane.policies.tasks import close_expired_canaries as close_task
from controlplane.registry.models import Environment, Service
from tests.access.actors import ADMIN, OPERATOR, VIEWER
from tests.policies.builders import (
    backoff,
    deadline,
    level_of,
    newest,
    newest_canary,
    open_on,
    publish_on,
    shed,
    start_on,
    stored_state,
)


def widen(canary: Canary, now: datetime, ratio: float, **expected: float) -> Canary:
    return widen_canary(
        actor=OPERATOR, canary=canary, ratio=ratio, reason="all is well", now=now, **expected
    )


def promote(canary: Canary, now: datetime, **expected: float) -> PolicyVersion:
    return promote_canary(actor=OPERATOR, canary=canary, reason="it held", now=now, **expected)


def end(canary: Canary, now: datetime, **expected: float) -> Canary:
    return end_canary(actor=OPERATOR, canary=canary, reason="it burnt", now=now, **expected)


def cohorts() -> list[tuple[str, float | None, int]]:
    """Every publication of checkout in order: its cohort, its ratio and the shed level it says."""
    rows = Publication.objects.filter(service_slug="checkout").order_by("sequence")
    return [(row.cohort, row.ratio, level_of(row.policy)) for row in rows]


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


@pytest.mark.parametrize("ratio", [0.1, 0.05])
def test_a_canary_never_narrows(checkout: Service, now: datetime, ratio: float) -> None:
    canary = start_on(checkout, now)
    before = stored_state()

    with pytest.raises(InvalidInput, match=r"more than 0\.1: a canary only widens; end it"):
        widen(canary, now, ratio)

    assert stored_state() == before


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.000_001, float("nan"), float("inf")])
def test_a_ratio_that_is_no_part_is_refused(checkout: Service, now: datetime, ratio: float) -> None:
    with pytest.raises(InvalidInput, match="more than 0 and at most 1") as caught:
        start_on(checkout, now, ratio=ratio)
    assert caught.value.field == "ratio"
    canary = start_on(checkout, now)
    before = stored_state()

    with pytest.raises(InvalidInput, match="ratio must be more than"):
        widen(canary, now, ratio)

    assert stored_state() == before


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


def test_a_version_cannot_be_published_past_a_canary(checkout: Service, now: datetime) -> None:
    publish_on(checkout, now, deadline(2000))
    canary = start_on(checkout, now)
    before = stored_state()
    message = (
        rf"canary {canary.pk} is open on checkout until 03:14:00 UTC: "
        "promote it or end it first, then publish"
    )

    with pytest.raises(Conflict, match=message):
        publish_on(checkout, now, deadline(1500))
    with pytest.raises(Conflict, match=message):
        roll_back_version(actor=OPERATOR, service=checkout, to_number=1, reason="x", now=now)

    assert stored_state() == before


def test_a_second_canary_of_a_service_is_a_conflict(checkout: Service, now: datetime) -> None:
    canary = start_on(checkout, now)
    before = stored_state()

    with pytest.raises(Conflict, match=f"canary {canary.pk} is open on checkout until 03:14:00"):
        start_on(checkout, now)

    assert stored_state() == before


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


def test_a_change_of_what_somebody_else_widened_is_refused(
    checkout: Service, now: datetime
) -> None:
    canary = start_on(checkout, now)
    widen(canary, now, 0.5)
    before = stored_state()
    message = r"has ratio 0\.5, not 0\.1: read it again, then decide again"

    with pytest.raises(PreconditionFailed, match=message):
        widen(canary, now, 0.2, expected_ratio=0.1)
    with pytest.raises(PreconditionFailed, match=message):
        promote(canary, now, expected_ratio=0.1)
    with pytest.raises(PreconditionFailed, match=message):
        end(canary, now, expected_ratio=0.1)

    assert stored_state() == before


def test_a_canary_of_an_older_version_than_the_present_one_is_refused(
    checkout: Service, now: datetime
) -> None:
    publish_on(checkout, now, deadline(2000))

    with pytest.raises(PreconditionFailed, match="checkout is at version 1, not 0"):
        start_canary(
            actor=OPERATOR,
            service=checkout,
            document=shed(1),
            ratio=0.1,
            lasts=timedelta(hours=1),
            reason="x",
            now=now,
            expected_number=0,
        )


@pytest.mark.parametrize(
    "lasts", [timedelta(0), timedelta(seconds=4.9), timedelta(hours=24, seconds=1)]
)
def test_a_canary_without_a_sensible_end_is_refused(
    checkout: Service, now: datetime, lasts: timedelta
) -> None:
    with pytest.raises(InvalidInput, match="a canary lasts 5 s to 24 h") as caught:
        start_on(checkout, now, minutes=lasts.total_seconds() / 60)

    assert caught.value.field == "lasts"
    assert Canary.objects.count() == 0


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"inbound": {"sheding": {"level": 1}}}, "sheding"),
        (backoff(base_ms=5000), r"for the instances of this canary"),
    ],
    ids=["unknown field", "contradiction"],
)
def test_a_bad_candidate_is_refused_and_nothing_stored(
    checkout: Service, now: datetime, document: dict[str, Any], message: str
) -> None:
    before = stored_state()

    with pytest.raises(InvalidInput, match=message):
        start_on(checkout, now, document)

    assert stored_state() == before


def test_an_override_that_contradicts_the_candidate_is_refused(
    checkout: Service, now: datetime
) -> None:
    canary = start_on(checkout, now, backoff(base_ms=1500))
    before = stored_state()

    with pytest.raises(InvalidInput, match=rf"for the instances of canary {canary.pk}"):
        open_on(checkout, now, backoff(max_ms=1000))

    assert stored_state() == before


def test_a_viewer_can_do_nothing_to_a_canary(checkout: Service, now: datetime) -> None:
    canary = start_on(checkout, now)
    before = stored_state()

    with pytest.raises(Forbidden):
        start_canary(
            actor=VIEWER,
            service=checkout,
            document=shed(1),
            ratio=0.1,
            lasts=timedelta(hours=1),
            reason="x",
            now=now,
        )
    with pytest.raises(Forbidden):
        widen_canary(actor=VIEWER, canary=canary, ratio=0.5, reason="x", now=now)
    with pytest.raises(Forbidden):
        promote_canary(actor=VIEWER, canary=canary, reason="x", now=now)
    with pytest.raises(Forbidden):
        end_canary(actor=VIEWER, canary=canary, reason="x", now=now)

    assert stored_state() == before


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"ratio": 0.0}, "canary_reaches_some_instances"),
        ({"ratio": 1.5}, "canary_reaches_some_instances"),
        ({"salt": ""}, "canary_has_a_salt"),
        ({"outcome": "ended"}, "canary_has_an_outcome_once_closed"),
        ({"ends_at": F("started_at")}, "canary_ends_after_it_starts"),
    ],
    ids=str,
)
def test_the_database_refuses_a_canary_that_makes_no_sense(
    checkout: Service, now: datetime, changes: dict[str, Any], constraint: str
) -> None:
    canary = start_on(checkout, now)

    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Canary.objects.filter(pk=canary.pk).update(**changes)


def test_the_database_keeps_two_canaries_of_a_service_apart(
    checkout: Service, now: datetime
) -> None:
    canary = start_on(checkout, now)
    canary.pk = None

    with pytest.raises(IntegrityError), transaction.atomic():
        canary.save(force_insert=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"cohort": "", "ratio": 0.1, "salt": ""},
        {"cohort": "", "ratio": None, "salt": "x"},
        {"cohort": "canary", "ratio": None, "salt": "x"},
        {"cohort": "canary", "ratio": 0.1, "salt": ""},
        {"cohort": "canary", "ratio": 1.1, "salt": "x"},
        {"cohort": "other", "ratio": 0.1, "salt": "x"},
    ],
    ids=str,
)
def test_the_database_refuses_a_cohort_that_makes_no_sense(
    checkout: Service, now: datetime, changes: dict[str, Any]
) -> None:
    start_on(checkout, now)

    with (
        pytest.raises(IntegrityError, match="publication_has_ratio_and_salt"),
        transaction.atomic(),
    ):
        Publication.objects.filter(pk=newest_canary().pk).update(**changes)


def test_publishing_again_once_it_ended_is_allowed(checkout: Service, now: datetime) -> None:
    end(start_on(checkout, now), now)

    version = publish_version(
        actor=OPERATOR, service=checkout, document=shed(1), reason="now", now=now
    )

    assert version.number == 1
    assert cohorts()[-1] == ("", None, 1)

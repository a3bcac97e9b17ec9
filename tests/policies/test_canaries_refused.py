"""What may not be done to a canary: refused by the services, and by the database beneath them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F

from controlplane.kernel.errors import Conflict, Forbidden, InvalidInput, PreconditionFailed
from controlplane.policies.models import Canary, Publication
from controlplane.policies.services import (
    end_canary,
    promote_canary,
    roll_back_version,
    start_canary,
    widen_canary,
)
from controlplane.registry.models import Service
from tests.access.actors import OPERATOR, VIEWER
from tests.policies.builders import (
    backoff,
    deadline,
    end,
    newest_canary,
    open_on,
    promote,
    publish_on,
    shed,
    start_on,
    stored_state,
    widen,
)


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

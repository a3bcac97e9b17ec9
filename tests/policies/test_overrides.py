from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection

from controlplane.access.models import AuditEntry
from controlplane.access.services import audit
from controlplane.kernel import hints
from controlplane.kernel.errors import Conflict, Forbidden, InvalidInput
from controlplane.policies.models import Override
from controlplane.policies.selectors import (
    effective_policy,
    get_override,
    list_overrides_in_force,
)
from controlplane.policies.services import (
    extend_override,
    open_override,
    overrides,
    revert_override,
)
from controlplane.policies.services.overrides import close_expired_overrides
from controlplane.policies.services.publications import publishing
from controlplane.policies.tasks import close_expired_overrides as close_task
from controlplane.registry.models import Service
from tests.access.actors import ADMIN, OPERATOR, VIEWER
from tests.policies.builders import (
    backoff,
    deadline,
    level_of,
    newest,
    open_on,
    publish_on,
    shed,
    stored_state,
)
from tests.waiting import HUNG_S


def test_an_override_is_published_with_the_policy_that_follows_it(
    checkout: Service, now: datetime
) -> None:
    override = open_on(checkout, now, shed(2), minutes=30)

    publication = newest()
    (step,) = publication.scheduled
    nonce = publication.etag.rsplit("-", 1)[1]
    assert level_of(publication.policy) == 2
    assert level_of(step["policy"]) == 0
    assert step["at"] == "2026-11-02T02:44:00Z"
    assert step["reason"] == f"override {override.pk} ends"
    assert step["etag"] == f"{publication.sequence}-1-{nonce}"


def test_an_override_stops_applying_the_moment_it_ends(checkout: Service, now: datetime) -> None:
    override = open_on(checkout, now, shed(2), minutes=30)
    just_before = override.ends_at - timedelta(microseconds=1)

    assert [row.id for row in list_overrides_in_force("prod", "checkout", now=just_before)] == [
        override.pk
    ]
    assert level_of(effective_policy(checkout, just_before).policy) == 2
    assert list_overrides_in_force("prod", now=override.ends_at) == []
    assert level_of(effective_policy(checkout, override.ends_at).policy) == 0


def test_overlapping_overrides_apply_oldest_first_and_end_one_by_one(
    checkout: Service, now: datetime
) -> None:
    publish_on(checkout, now, deadline(2000))
    first = open_on(checkout, now, {**shed(1), "lifecycle": {"drain": {"timeout_s": 20}}})
    second = open_on(checkout, now, shed(3), minutes=10)

    publication = newest()
    assert [level_of(publication.policy)] + [
        level_of(step["policy"]) for step in publication.scheduled
    ] == [3, 1, 0]
    assert [step["reason"] for step in publication.scheduled] == [
        f"override {second.pk} ends",
        f"override {first.pk} ends",
    ]
    leaf = effective_policy(checkout, now).leaves["inbound.shedding.level"]
    assert (leaf.layer, leaf.kind) == (f"override {second.pk}", "override")
    assert (f"override {first.pk}", 1) in leaf.beat


def test_overrides_that_end_together_are_one_step(checkout: Service, now: datetime) -> None:
    first = open_on(checkout, now, shed(1))
    second = open_on(checkout, now, deadline(2000))

    (step,) = newest().scheduled
    assert step["reason"] == f"override {first.pk} and override {second.pk} end"


def test_an_override_that_changes_nothing_now_is_allowed(checkout: Service, now: datetime) -> None:
    open_on(checkout, now, shed(0))

    assert AuditEntry.objects.get().data["changes"] == []
    assert level_of(newest().policy) == 0


def test_an_override_opened_by_a_clock_that_runs_behind_keeps_the_others(
    checkout: Service, now: datetime
) -> None:
    open_on(checkout, now, shed(2))

    open_on(checkout, now - timedelta(seconds=2), deadline(2000))

    assert level_of(newest().policy) == 2
    assert newest().policy["inbound"]["deadline_ms"] == 2000


def test_extending_moves_the_end_in_the_publication(checkout: Service, now: datetime) -> None:
    override = open_on(checkout, now, minutes=30)

    extended = extend_override(
        actor=OPERATOR,
        override=override,
        by=timedelta(hours=1),
        reason="still drowning",
        now=now + timedelta(minutes=5),
    )

    assert extended.ends_at == now + timedelta(minutes=90)
    assert newest().scheduled[0]["at"] == "2026-11-02T03:44:00Z"
    assert get_override(override.pk).ends_at == extended.ends_at
    actions = AuditEntry.objects.order_by("number").values_list("action", flat=True)
    assert list(actions) == ["override.opened", "override.extended"]


def test_reverting_ends_it_now_and_leaves_the_others(checkout: Service, now: datetime) -> None:
    override = open_on(checkout, now, shed(3))
    open_on(checkout, now, deadline(2000))

    reverted = revert_override(actor=ADMIN, override=override, reason="calm again", now=now)

    assert (reverted.closed_at, reverted.closed_by) == (now, "admin")
    assert level_of(newest().policy) == 0
    assert newest().policy["inbound"]["deadline_ms"] == 2000
    assert AuditEntry.objects.get(action="override.reverted").data["changes"] == [
        {"path": "inbound.shedding.level", "before": 3, "after": 0, "kind": "changed"}
    ]


def test_what_has_ended_can_be_neither_extended_nor_reverted(
    checkout: Service, now: datetime
) -> None:
    ended = open_on(checkout, now, minutes=1)
    reverted = open_on(checkout, now)
    revert_override(actor=OPERATOR, override=reverted, reason="done", now=now)
    later = now + timedelta(minutes=1)
    before = stored_state()

    for override, message in ((ended, "ended at 02:15:00 UTC"), (reverted, "was closed by oncall")):
        with pytest.raises(Conflict, match=message):
            revert_override(actor=OPERATOR, override=override, reason="again", now=later)
        with pytest.raises(Conflict, match=message):
            extend_override(
                actor=OPERATOR,
                override=override,
                by=timedelta(minutes=5),
                reason="again",
                now=later,
            )

    assert stored_state() == before


@pytest.mark.parametrize(
    "lasts",
    [timedelta(0), timedelta(seconds=-1), timedelta(seconds=4.9), timedelta(hours=8, seconds=1)],
)
def test_a_bad_duration_is_refused(checkout: Service, now: datetime, lasts: timedelta) -> None:
    with pytest.raises(InvalidInput, match="lasts 5 s to 8 h from now") as caught:
        open_override(
            actor=OPERATOR, service=checkout, patch=shed(1), lasts=lasts, reason="x", now=now
        )

    assert caught.value.field == "lasts"
    assert Override.objects.count() == 0


def test_an_extension_cannot_pass_the_longest_duration(checkout: Service, now: datetime) -> None:
    override = open_on(checkout, now, minutes=60)
    before = stored_state()

    for by in (timedelta(hours=7, seconds=1), timedelta(seconds=1), timedelta(hours=-1)):
        with pytest.raises(InvalidInput) as caught:
            extend_override(actor=OPERATOR, override=override, by=by, reason="more", now=now)
        assert caught.value.field == "by"

    assert stored_state() == before


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({}, ""),
        ({"inbound": {"shedding": {"level": 4}}}, "inbound.shedding.level"),
        ({"inbound": {"sheding": {"level": 1}}}, "inbound.sheding"),
        ({"inbound": {"shedding": {"level": "2"}}}, "inbound.shedding.level"),
        ("shed", ""),
    ],
    ids=str,
)
def test_a_bad_patch_is_refused_with_its_path_and_nothing_stored(
    checkout: Service, now: datetime, patch: object, path: str
) -> None:
    before = stored_state()

    with pytest.raises(InvalidInput) as caught:
        open_override(
            actor=OPERATOR,
            service=checkout,
            patch=patch,  # type: ignore[arg-type]
            lasts=timedelta(hours=1),
            reason="broken",
            now=now,
        )

    assert caught.value.problems[0].path == path
    assert stored_state() == before


def test_an_override_whose_end_would_leave_a_contradiction_is_refused_at_once(
    checkout: Service, now: datetime
) -> None:
    open_on(checkout, now, backoff(max_ms=20000), minutes=10)
    before = stored_state()

    with pytest.raises(InvalidInput, match=r"from 2026-11-02 02:24:00 UTC, when override \d+ ends"):
        open_on(checkout, now, backoff(base_ms=5000), minutes=60)

    assert stored_state() == before


def test_reverting_what_a_later_override_rests_on_is_refused(
    checkout: Service, now: datetime
) -> None:
    below = open_on(checkout, now, backoff(max_ms=20000), minutes=60)
    above = open_on(checkout, now, backoff(base_ms=5000), minutes=10)
    before = stored_state()

    with pytest.raises(InvalidInput, match="would contradict itself"):
        revert_override(actor=OPERATOR, override=below, reason="x", now=now)

    assert stored_state() == before
    revert_override(actor=OPERATOR, override=above, reason="x", now=now)
    revert_override(actor=OPERATOR, override=below, reason="x", now=now)


def test_a_viewer_can_neither_open_nor_extend_nor_revert(checkout: Service, now: datetime) -> None:
    override = open_on(checkout, now)
    hour = timedelta(hours=1)
    before = stored_state()

    with pytest.raises(Forbidden):
        open_override(
            actor=VIEWER, service=checkout, patch=shed(1), lasts=hour, reason="x", now=now
        )
    with pytest.raises(Forbidden):
        extend_override(actor=VIEWER, override=override, by=hour, reason="x", now=now)
    with pytest.raises(Forbidden):
        revert_override(actor=VIEWER, override=override, reason="x", now=now)

    assert stored_state() == before


def test_ended_overrides_are_closed_and_told_once(checkout: Service, now: datetime) -> None:
    override = open_on(checkout, now, minutes=1)
    sequence = newest().sequence
    later = now + timedelta(minutes=2)

    assert close_expired_overrides(actor=ADMIN, now=now) == 0
    assert close_expired_overrides(actor=ADMIN, now=later) == 1
    assert close_expired_overrides(actor=ADMIN, now=later) == 0

    assert get_override(override.pk).closed_at == override.ends_at
    assert AuditEntry.objects.filter(action="override.ended").count() == 1
    assert newest().sequence == sequence


def test_a_backlog_that_is_cut_short_stays_closed_as_far_as_it_came(
    checkout: Service, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = [open_on(checkout, now, minutes=minutes) for minutes in range(5, 10)]
    monkeypatch.setattr(overrides, "CLOSED_AT_ONCE", 2)
    record = audit.record

    def out_of_time(**entry: Any) -> None:
        if entry["subject"] == f"override:{opened[3].pk}":
            raise SoftTimeLimitExceeded
        record(**entry)

    monkeypatch.setattr(audit, "record", out_of_time)
    later = now + timedelta(hours=1)

    with pytest.raises(SoftTimeLimitExceeded):
        close_expired_overrides(actor=ADMIN, now=later)

    assert Override.objects.exclude(closed_at=None).count() == 2
    assert AuditEntry.objects.filter(action="override.ended").count() == 2
    monkeypatch.setattr(audit, "record", record)
    assert close_expired_overrides(actor=ADMIN, now=later) == 3


def test_others_publish_while_a_backlog_is_closed(
    transactional_db: None,
    checkout: Service,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for minutes in range(5, 10):
        open_on(checkout, now, minutes=minutes)
    monkeypatch.setattr(overrides, "CLOSED_AT_ONCE", 2)
    monkeypatch.setattr(hints, "send_hints", lambda channel, messages: True)
    later = now + timedelta(hours=1)
    closed: list[int] = []

    def publish() -> None:
        try:
            closed.append(Override.objects.exclude(closed_at=None).count())
            publish_on(checkout, later, deadline(2000 + len(closed)))
        finally:
            connection.close()

    @contextmanager
    def publishing_and_others_after() -> Iterator[None]:
        with publishing():
            yield
        other = threading.Thread(target=publish)
        other.start()
        other.join(HUNG_S)

    monkeypatch.setattr(overrides, "publishing", publishing_and_others_after)

    assert close_expired_overrides(actor=ADMIN, now=later) == 5
    assert closed == [2, 4, 5]
    assert newest().version_number == 3


def test_the_tidying_task_publishes_an_environment_that_never_was(checkout: Service) -> None:
    close_task()
    close_task()

    publication = newest("")
    assert publication.sequence == 1
    assert publication.policy["inbound"]["deadline_ms"] == 3000
    assert AuditEntry.objects.get().action == "environment.published"

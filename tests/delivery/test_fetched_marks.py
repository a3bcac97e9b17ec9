"""Each publication remembers when each instance was sent it, and since when it is refused."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from controlplane.delivery.models import Acknowledgement, InstanceReport
from controlplane.delivery.services import tidying
from controlplane.delivery.services.reports import write_reports
from controlplane.delivery.services.tidying import prune_silent_instances
from tests.delivery.builders import NOW, Clock, Plane, answer, make_plane, snapshot
from tests.delivery.rows import acknowledge

OURS, NEXT = '"7-0-9f3c"', '"8-0-9f3c"'


def poll(plane: Plane, **headers: str) -> None:
    names = {
        "applied": "Tidegate-Applied",
        "rejected": "Tidegate-Rejected",
        "etag": "If-None-Match",
    }
    answer(
        plane,
        headers={"Tidegate-Instance": "checkout-1"} | {names[k]: v for k, v in headers.items()},
    )


def moments(outcome: str) -> dict[int, datetime]:
    rows = Acknowledgement.objects.filter(outcome=outcome)
    return dict(rows.values_list("sequence", "at"))


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_every_publication_keeps_its_own_time_of_being_sent(db: None) -> None:
    clock = Clock()
    plane = make_plane(snapshot(7), clock=clock)
    poll(plane)
    clock.pass_s(1)
    plane.store.swap(snapshot(8))
    poll(plane, applied=OURS, etag=OURS)
    clock.pass_s(0.5)
    poll(plane, applied=NEXT, etag=NEXT)

    write_reports(plane.reports.take())

    assert moments("fetched") == {7: NOW, 8: after(1)}
    assert moments("applied") == {7: after(1), 8: after(1.5)}


def test_being_sent_the_same_again_changes_nothing(db: None) -> None:
    clock = Clock()
    plane = make_plane(snapshot(7), clock=clock)
    for _ in range(40):
        poll(plane)
        clock.pass_s(0.1)
    notes = plane.reports.take()
    write_reports(notes)
    poll(plane)
    write_reports(plane.reports.take())

    assert [mark.outcome for mark in notes[0].marks] == ["fetched"]
    assert moments("fetched") == {7: NOW}


def test_a_head_request_fetches_nothing(db: None) -> None:
    plane = make_plane(snapshot(7))

    answer(plane, method="HEAD", headers={"Tidegate-Instance": "checkout-1"})

    assert [mark.outcome for note in plane.reports.take() for mark in note.marks] == []


def test_answers_alone_are_worth_a_hint(db: None) -> None:
    plane = make_plane(snapshot(7))
    poll(plane)
    assert write_reports(plane.reports.take()) == 0

    poll(plane, applied=OURS, etag=OURS)

    assert write_reports(plane.reports.take()) == 1


def test_a_rejection_that_is_repeated_keeps_the_time_it_began(db: None) -> None:
    clock = Clock()
    refusing = {"applied": OURS, "rejected": f'{NEXT}; reason="no"'}
    first = make_plane(snapshot(8), clock=clock)
    poll(first, **refusing)
    write_reports(first.reports.take())
    clock.pass_s(20)
    second = make_plane(snapshot(8), clock=clock)

    poll(second, **refusing)
    write_reports(second.reports.take())

    assert InstanceReport.objects.get().rejected_at == NOW
    assert moments("rejected") == {8: NOW}


def test_an_instance_that_recovers_has_rejected_and_applied(db: None) -> None:
    clock = Clock()
    plane = make_plane(snapshot(8), clock=clock)
    poll(plane, applied=OURS, rejected=f'{NEXT}; reason="no"')
    write_reports(plane.reports.take())
    clock.pass_s(60)

    poll(plane, applied=NEXT)
    write_reports(plane.reports.take())

    assert InstanceReport.objects.get().rejected_at is None
    assert (moments("rejected")[8], moments("applied")[8]) == (NOW, after(60))


def test_a_large_backlog_of_old_answers_goes_in_batches_within_a_bound(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "BATCH", 2)
    monkeypatch.setattr(tidying, "MAX_BATCHES", 3)
    for number in range(9):
        acknowledge(f"checkout-{number}", 7, after_s=number)

    month_later = NOW + timedelta(days=31)

    assert prune_silent_instances(now=month_later) == 6
    assert prune_silent_instances(now=month_later) == 3
    assert Acknowledgement.objects.count() == 0

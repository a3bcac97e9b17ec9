"""What instances say in their polls ends up in the database, once, and in order."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import QuerySet

from controlplane.delivery.hotpath.reports import ReportBuffer
from controlplane.delivery.models import Acknowledgement, InstanceReport
from controlplane.delivery.services.reports import write_reports
from controlplane.delivery.services.tidying import prune_silent_instances
from controlplane.registry.models import Instance
from tests.delivery.builders import (
    NOW,
    Client,
    Clock,
    Plane,
    answer,
    begin,
    let_others_run,
    make_plane,
    snapshot,
)
from tests.delivery.rows import publication_row, scheduled_entry

OURS = '"7-0-9f3c"'


def poll(plane: Plane, instance: str = "checkout-1", **headers: str | None) -> int:
    """One poll of an instance; keyword `applied`, `rejected` and `etag` are its headers."""
    sent = {"Tidegate-Instance": instance, "User-Agent": "tidegate-python/0.1"}
    names = {
        "applied": "Tidegate-Applied",
        "rejected": "Tidegate-Rejected",
        "etag": "If-None-Match",
    }
    sent |= {names[key]: value for key, value in headers.items() if value is not None}
    return answer(plane, headers=sent).status


def flush(plane: Plane) -> int:
    return write_reports(plane.reports.take())


def answers() -> QuerySet[Acknowledgement]:
    """What instances said of publications, as opposed to what they were sent."""
    return Acknowledgement.objects.exclude(outcome="fetched")


def only_report() -> InstanceReport:
    return InstanceReport.objects.select_related("instance").get()


def test_a_first_poll_makes_the_instance_and_says_it_fetched(db: None) -> None:
    plane = make_plane()

    poll(plane)
    flush(plane)

    report = only_report()
    assert (report.state, report.etag, report.sequence) == ("fetched", "", None)
    assert (report.fetched_at, report.applied_at) == (NOW, None)
    assert report.sdk == "tidegate-python/0.1"
    assert (report.instance.service_slug, report.instance.instance_id) == ("checkout", "checkout-1")
    assert report.instance.first_seen_at == report.instance.last_seen_at == NOW


def test_the_poll_that_names_what_it_applied_is_the_acknowledgement(db: None) -> None:
    clock = Clock()
    plane = make_plane(clock=clock)
    poll(plane)
    clock.pass_s(0.4)

    poll(plane, applied=OURS, etag=OURS)
    new_answers = flush(plane)

    report = only_report()
    assert (report.state, report.etag, report.sequence, report.step) == (
        "applied", "7-0-9f3c", 7, 0,
    )  # fmt: skip
    assert report.applied_at == NOW + timedelta(milliseconds=400)
    assert report.fetched_at == NOW
    assert new_answers == 1
    acknowledgement = answers().get()
    assert (acknowledgement.sequence, acknowledgement.outcome) == (7, "applied")
    assert acknowledgement.at == report.applied_at


def test_a_rejection_keeps_what_is_applied_and_says_why(db: None) -> None:
    plane = make_plane(snapshot(7))
    poll(plane, applied=OURS)
    plane.store.swap(snapshot(8))

    poll(plane, applied=OURS, rejected='"8-0-9f3c"; reason="unknown field"')
    flush(plane)

    report = only_report()
    assert (report.state, report.etag, report.sequence) == ("rejected", "7-0-9f3c", 7)
    assert (report.rejected_etag, report.reason) == ("8-0-9f3c", "unknown field")
    assert set(answers().values_list("sequence", "outcome", "reason")) == {
        (7, "applied", ""),
        (8, "rejected", "unknown field"),
    }


def test_an_instance_that_recovers_is_applied_again(db: None) -> None:
    plane = make_plane(snapshot(7))
    poll(plane, applied=OURS, rejected='"6-0-9f3c"; reason="no"')
    flush(plane)

    poll(plane, applied=OURS)
    flush(plane)

    assert (only_report().state, only_report().reason) == ("applied", "")


def test_a_scheduled_step_is_acknowledged_under_its_publication(db: None) -> None:
    plane = make_plane(snapshot(7, scheduled=[(60, {})]))

    poll(plane, applied='"7-1-9f3c"')
    flush(plane)

    assert (only_report().sequence, only_report().step) == (7, 1)


def test_a_tag_from_before_a_restart_is_found_in_the_database(db: None) -> None:
    publication_row(5, scheduled=[scheduled_entry(5, 1, after_s=60)])
    plane = make_plane(snapshot(7))

    poll(plane, "checkout-1", applied='"5-0-9f3c"')
    poll(plane, "checkout-2", applied='"5-1-9f3c"')
    flush(plane)

    assert set(InstanceReport.objects.values_list("sequence", "step")) == {(5, 0), (5, 1)}


@pytest.mark.parametrize("etag", ["5-0-0bad", "5-9-9f3c", "99-0-9f3c", "deployed by hand", "ü"])
def test_a_tag_that_is_not_ours_is_kept_as_text_without_a_sequence(db: None, etag: str) -> None:
    publication_row(5)
    plane = make_plane(snapshot(7))

    poll(plane, applied=f'"{etag.replace(" ", "_")}"')
    flush(plane)

    report = only_report()
    assert (report.etag, report.sequence) == (etag.replace(" ", "_"), None)
    assert report.state == "applied"
    assert answers().count() == 0


def test_writing_a_batch_twice_changes_nothing(db: None) -> None:
    plane = make_plane()
    poll(plane, applied=OURS)
    batch = plane.reports.take()

    write_reports(batch)
    write_reports(batch)

    assert (Instance.objects.count(), InstanceReport.objects.count()) == (1, 1)
    assert set(Acknowledgement.objects.values_list("sequence", "outcome")) == {
        (7, "fetched"),
        (7, "applied"),
    }
    assert Acknowledgement.objects.count() == 2


def test_the_first_answer_to_a_publication_stays(db: None) -> None:
    plane, clock = make_plane(), Clock(NOW + timedelta(hours=1))
    poll(plane, applied=OURS)
    flush(plane)
    restarted = make_plane(clock=clock)

    poll(restarted, applied=OURS)
    flush(restarted)

    assert [row.at for row in Acknowledgement.objects.all()] == [NOW, NOW]
    assert Instance.objects.get().last_seen_at == NOW + timedelta(hours=1)
    assert Instance.objects.get().first_seen_at == NOW


def test_a_batch_of_hundreds_takes_a_handful_of_statements(
    db: None, django_assert_max_num_queries: Any
) -> None:
    plane = make_plane()
    for number in range(200):
        poll(plane, f"checkout-{number}", applied=OURS)

    with django_assert_max_num_queries(12):  # SQLite takes about a hundred rows at a time
        flush(plane)

    assert Acknowledgement.objects.count() == 400


def test_an_instance_that_says_the_same_again_is_refreshed_every_five_seconds(db: None) -> None:
    clock = Clock()
    plane = make_plane(clock=clock)
    poll(plane, applied=OURS, etag=OURS)
    flush(plane)

    for _ in range(4):
        clock.pass_s(1)
        poll(plane, applied=OURS, etag=OURS)
    quiet = len(plane.reports)
    clock.pass_s(1)
    poll(plane, applied=OURS, etag=OURS)

    assert (quiet, len(plane.reports)) == (0, 1)
    flush(plane)
    assert Instance.objects.get().last_seen_at == NOW + timedelta(seconds=5)


def test_a_clock_that_is_set_back_makes_nobody_silent(db: None) -> None:
    clock = Clock()
    plane = make_plane(clock=clock)
    poll(plane, applied=OURS, etag=OURS)
    flush(plane)

    clock.pass_s(-3600)
    poll(plane, applied=OURS, etag=OURS)

    assert len(plane.reports) == 1


def test_only_the_time_is_written_of_an_instance_that_says_the_same(
    db: None, django_assert_max_num_queries: Any
) -> None:
    clock = Clock()
    plane = make_plane(clock=clock)
    poll(plane, applied=OURS, etag=OURS)
    flush(plane)
    clock.pass_s(6)
    poll(plane, applied=OURS, etag=OURS)

    with django_assert_max_num_queries(3) as queries:  # savepoint, one upsert, release
        flush(plane)

    assert not any("instancereport" in query["sql"] for query in queries.captured_queries)


def test_a_parked_poll_has_acknowledged_before_it_waits(db: None) -> None:
    plane = make_plane()

    async def story() -> None:
        headers = {
            "Tidegate-Instance": "checkout-1", "Tidegate-Applied": OURS,
            "If-None-Match": OURS, "Prefer": "wait=30",
        }  # fmt: skip
        parked = begin(plane, Client(), headers=headers)
        await let_others_run()
        parked.cancel()

    asyncio.run(story())
    flush(plane)

    assert only_report().state == "applied"


def test_made_up_instances_are_bounded_per_service_and_the_poll_is_still_answered() -> None:
    clock = Clock()
    plane = make_plane(clock=clock)
    plane.reports._max_per_service = 3

    statuses = {poll(plane, f"made-up-{number}") for number in range(10)}

    assert statuses == {200}
    assert (len(plane.reports), plane.reports.dropped_count) == (3, 14)


def test_silent_instances_make_room_for_new_ones() -> None:
    clock = Clock()
    plane = make_plane(clock=clock)
    plane.reports._max_per_service = 3
    for number in range(3):
        poll(plane, f"old-{number}")
    clock.pass_s(121)

    poll(plane, "new-1")

    assert [note.instance_id for note in plane.reports.take()][-1] == "new-1"
    assert plane.reports.dropped_count == 0


def test_notes_that_could_not_be_written_are_joined_with_what_came_since(db: None) -> None:
    clock = Clock()
    plane = make_plane(snapshot(7), clock=clock)
    poll(plane, applied=OURS)
    unwritten = plane.reports.take()
    plane.store.swap(snapshot(8))
    clock.pass_s(1)
    poll(plane, applied='"8-0-9f3c"')

    plane.reports.give_back(unwritten)
    flush(plane)

    assert only_report().etag == "8-0-9f3c"
    assert set(Acknowledgement.objects.values_list("sequence", flat=True)) == {7, 8}


def test_a_batch_is_bounded() -> None:
    plane = make_plane()
    for number in range(5):
        poll(plane, f"checkout-{number}")

    first = plane.reports.take(limit=3)

    assert [note.instance_id for note in first] == ["checkout-0", "checkout-1", "checkout-2"]
    assert len(plane.reports) == 2


def test_an_empty_batch_touches_no_database() -> None:
    assert write_reports(ReportBuffer().take()) == 0


def test_long_silent_instances_and_old_answers_are_forgotten(db: None) -> None:
    plane = make_plane()
    poll(plane, "old", applied=OURS)
    flush(plane)
    later = datetime(2026, 12, 3, tzinfo=UTC)
    fresh = make_plane(clock=Clock(later))
    poll(fresh, "new", applied=OURS)
    flush(fresh)

    removed = prune_silent_instances(now=later)

    assert removed == 3  # the instance, what it was sent and what it said
    assert InstanceReport.objects.get().instance.instance_id == "new"
    assert set(Acknowledgement.objects.values_list("instance_id", flat=True)) == {"new"}
    assert prune_silent_instances(now=later) == 0

"""A database that hangs, went back in time or is not there yet: what is served and said."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from structlog.testing import capture_logs

from controlplane.delivery.services import feed as feed_module
from controlplane.delivery.services import report_writer as writer_module
from controlplane.delivery.services.instruments import SEQUENCE_LEAD
from controlplane.delivery.services.loading import START, read_changes
from controlplane.policies.models import Publication
from controlplane.registry.models import Environment
from tests.delivery.builders import Clock, Plane, answer, published
from tests.delivery.rows import in_thread, publication_row, token_row
from tests.delivery.test_feed import look_and_stop, lose_the_database, make_feed, note_an_instance
from tests.waiting import HUNG_S, not_hung


def served(plane: Plane, service: str = "checkout") -> int | None:
    slot = plane.store.find_slot("prod", service)
    return slot.stable.snapshot.sequence if slot else None


def answer_etag(plane: Plane) -> str:
    slot = plane.store.find_slot("prod", "checkout")
    assert slot is not None
    return slot.stable.step.etag


def events(lines: list[Any]) -> list[str]:
    return [line["event"] for line in lines]


def test_what_was_served_is_in_the_file_before_it_is_served(
    transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication_row(3)
    plane, feed = make_feed(tmp_path)
    order: list[str] = []
    add, swap = feed._memory._log.add, plane.store.swap

    def added(*arguments: Any, **named: Any) -> None:
        add(*arguments, **named)
        order.append("written")

    def swapped(snapshot: Any) -> bool:
        order.append("served")
        return swap(snapshot)

    monkeypatch.setattr(feed._memory._log, "add", added)
    monkeypatch.setattr(plane.store, "swap", swapped)

    look_and_stop(feed)

    assert order == ["written", "served"]


def test_a_restart_never_serves_less_than_before_even_if_the_database_holds_less(
    transactional_db: None, tmp_path: Path
) -> None:
    publication_row(3)
    publication_row(9, policy={"inbound": {"deadline_ms": 9}})
    publication_row(8, service="payments")
    token_row()
    _, first = make_feed(tmp_path)
    look_and_stop(first)
    Publication.objects.filter(sequence__gt=3).delete()  # restored from a backup
    publication_row(4)
    plane, second = make_feed(tmp_path)

    with capture_logs() as lines:
        second.load()

    assert answer(plane).json["policy"] == {"inbound": {"deadline_ms": 9}}
    assert served(plane, "payments") == 8
    assert events(lines) == ["sequence.behind"]
    assert lines[0]["command"] == "manage.py raise_sequence --above 9"
    assert SEQUENCE_LEAD._value.get() == 5


def test_a_database_that_went_back_is_said_once_a_minute_until_it_has_caught_up(
    db: None, tmp_path: Path
) -> None:
    publication_row(9)
    clock = Clock()
    _, feed = make_feed(tmp_path, clock)
    feed.load()
    Publication.objects.all().delete()
    publication_row(4)

    with capture_logs() as lines:
        for _ in range(31):
            feed.load()
            clock.pass_s(2)
        publication_row(10)
        feed.load()

    assert events(lines) == ["sequence.behind", "sequence.behind", "sequence.caught_up"]
    assert SEQUENCE_LEAD._value.get() == 0


def test_a_database_that_went_on_in_another_direction_is_read_as_a_whole(
    db: None, tmp_path: Path
) -> None:
    publication_row(3)
    publication_row(4, service="payments")
    plane, feed = make_feed(tmp_path)
    feed.load()
    publication_row(9, service="payments")
    feed.load()
    Publication.objects.filter(sequence=9).delete()  # restored from a backup
    publication_row(5)
    publication_row(11, service="ledger")

    with capture_logs() as lines:
        feed.load()

    assert [served(plane, name) for name in ("checkout", "payments", "ledger")] == [5, 9, 11]
    assert events(lines) == ["history.differs"]
    assert lines[0]["services"] == ["prod/payments #9"]


def test_a_service_that_a_restored_database_does_not_know_moves_on_by_the_command_that_is_said(
    prod: Environment, tmp_path: Path
) -> None:
    publication_row(3, service="", policy={"inbound": {"deadline_ms": 3000}})
    plane, feed = make_feed(tmp_path)
    feed.load()
    publication_row(8, service="ledger", policy={"inbound": {"deadline_ms": 8}})
    publication_row(9, service="ledger", policy={"inbound": {"deadline_ms": 9}}, canary_ratio=1.0)
    feed.load()
    Publication.objects.filter(service_slug="ledger").delete()  # restored from a backup
    call_command("raise_sequence", "--above", "9", "--reason", "restored")

    with capture_logs() as lines:
        feed.load()
    before = served(plane, "ledger")
    said = next(line for line in lines if line["event"] == "history.differs")
    call_command(*said["command"].split()[1:], "--reason", "lost with the backup")
    feed.load()

    slot = plane.store.find_slot("prod", "ledger")
    assert before == 8
    assert said["services"] == ["prod/ledger #8", "prod/ledger #9"]
    assert said["command"] == "manage.py raise_sequence --above 9 --service prod/ledger"
    assert slot is not None
    assert slot.stable.snapshot.sequence > 9
    assert slot.lane(b"an instance of the canary") is slot.stable


def test_a_publication_that_has_the_number_of_a_lost_one_is_served_and_the_loss_is_said(
    db: None, tmp_path: Path
) -> None:
    publication_row(4, service="payments")
    publication_row(5)
    plane, feed = make_feed(tmp_path)
    feed.load()
    publication_row(6)
    feed.load()
    Publication.objects.filter(sequence=6).delete()  # restored from a backup
    publication_row(6, service="payments", etag="6-0-other")

    with capture_logs() as lines:
        for _ in range(2):
            feed.load()

    assert [served(plane, name) for name in ("checkout", "payments")] == [6, 6]
    assert events(lines) == ["history.differs"]
    assert lines[0]["services"] == ["prod/checkout #6"]


def test_a_service_whose_lost_publication_has_the_number_of_its_next_is_named(
    db: None, tmp_path: Path
) -> None:
    publication_row(5)
    plane, feed = make_feed(tmp_path)
    feed.load()
    Publication.objects.all().delete()  # restored from a backup
    publication_row(5, etag="5-0-other", policy={"inbound": {"deadline_ms": 9}})

    with capture_logs() as lines:
        feed.load()

    assert answer_etag(plane) == "5-0-9f3c"
    assert lines[0]["services"] == ["prod/checkout #5"]


async def test_a_look_that_hangs_is_given_up_and_the_next_finds_what_is_new(
    transactional_db: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    never: threading.Event,
) -> None:
    await in_thread(publication_row, 3)
    plane, feed = make_feed(tmp_path)
    await feed.sync()
    await in_thread(publication_row, 6)
    with monkeypatch.context() as frozen, capture_logs() as lines:
        frozen.setattr(feed._reader, "_patience_s", 0.05)
        frozen.setattr(feed_module, "read_changes", lambda **_: never.wait(HUNG_S))
        await feed.sync()
        during = served(plane)

    await feed.sync()

    assert (during, served(plane)) == (3, 6)
    assert events(lines) == ["database.lost"]
    assert "did not answer within" in lines[0]["error"]


async def test_a_process_whose_database_hangs_starts_from_the_file_in_the_meantime(
    transactional_db: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    never: threading.Event,
) -> None:
    await in_thread(publication_row, 3)
    _, first = make_feed(tmp_path)
    await first.sync()
    await first.stop()
    monkeypatch.setattr(feed_module, "read_changes", lambda **_: never.wait(HUNG_S))
    monkeypatch.setattr(feed_module, "START_WITHIN_S", 0.05)
    plane, second = make_feed(tmp_path)

    has_started = asyncio.Event()
    start = second._start_from_file

    def started() -> None:
        start()
        has_started.set()

    monkeypatch.setattr(second, "_start_from_file", started)
    with capture_logs() as lines:
        running = asyncio.create_task(second.run())
        try:
            async with not_hung():
                await has_started.wait()
            held = (plane.config.is_ready, served(plane), plane.store.behind_since_unix)
        finally:
            never.set()
            await second.stop()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert held[:2] == (True, 3)
    assert held[2] is not None
    assert "snapshots.restored" in events(lines)


def test_a_process_that_started_from_the_file_catches_up_when_the_database_is_back(
    transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication_row(3)
    token_row()
    _, first = make_feed(tmp_path)
    look_and_stop(first)
    publication_row(7)
    plane, second = make_feed(tmp_path)
    with monkeypatch.context() as broken:
        lose_the_database(broken)
        second.load()
    before = answer(plane)

    second.load()

    after = answer(plane)
    assert (before.headers["tidegate-sequence"], "warning" in before.headers) == ("3", True)
    assert (after.headers["tidegate-sequence"], "warning" in after.headers) == ("7", False)


def test_age_is_said_even_while_a_look_hangs(db: None, tmp_path: Path) -> None:
    publication_row(3)
    clock = Clock()
    plane, feed = make_feed(tmp_path, clock)
    feed.load()

    clock.pass_s(5)
    feed._mark_age()
    early = plane.store.behind_since_unix
    clock.pass_s(5)
    feed._mark_age()

    assert early is None
    assert plane.store.behind_since_unix == feed.confirmed_at_unix


def test_thousands_of_changes_let_others_run_in_between(db: None, tmp_path: Path) -> None:
    _, feed = make_feed(tmp_path)
    found = tuple(published(number, service=f"service-{number}") for number in range(1, 1001))
    changes = read_changes(after=START, stamp=None)
    snapshots, _ = feed_module._compiled(found)

    turns = sum(1 for _ in feed._take(feed_module.Look(changes, snapshots, ())))

    assert turns == 10


async def test_reports_that_a_hanging_database_did_not_take_are_kept(
    transactional_db: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    never: threading.Event,
) -> None:
    plane, feed = make_feed(tmp_path)
    note_an_instance(plane)
    with monkeypatch.context() as frozen, capture_logs() as lines:
        frozen.setattr(feed._reports._thread, "_patience_s", 0.05)
        frozen.setattr(writer_module, "write_reports", lambda notes, known: never.wait(HUNG_S))
        await feed.flush()
    kept = len(plane.reports)

    await feed.flush()

    assert (events(lines), kept, len(plane.reports)) == (["reports.lost"], 1, 0)

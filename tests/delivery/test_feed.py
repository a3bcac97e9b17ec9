"""From the publications table into what polls are answered, whatever fails on the way."""

from __future__ import annotations

import asyncio
import math
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from django.db import DataError, OperationalError
from structlog.testing import capture_logs

from controlplane.delivery.hotpath.headers import Report
from controlplane.delivery.hotpath.reports import InstanceNote
from controlplane.delivery.services import feed as feed_module
from controlplane.delivery.services import report_writer as writer_module
from controlplane.delivery.services.feed import Feed, Look
from controlplane.delivery.services.loading import START, Position, read_changes
from controlplane.delivery.services.snapshot_file import News, read_snapshot_file
from controlplane.delivery.services.snapshot_log import SnapshotLog
from controlplane.policies.models import Publication
from tests.delivery.builders import NEWCOMER_TOKEN, NOW, Clock, Plane, answer, make_plane, snapshot
from tests.delivery.rows import in_thread, publication_row, scheduled_entry, token_row
from tests.waiting import not_hung


def make_feed(tmp_path: Path, clock: Clock | None = None) -> tuple[Plane, Feed]:
    """An empty plane that nothing is loaded into yet, and its feed."""
    clock = clock or Clock()
    plane = make_plane(snapshot(1, service="nobody", environment="nowhere"), clock=clock)
    plane.tokens.replace([])
    plane.store.is_loaded = False
    feed = Feed(
        plane.store, plane.tokens, plane.reports, redis_url="redis://127.0.0.1:1",
        snapshot_file=tmp_path / "state" / "snapshots.log", clock=clock,
    )  # fmt: skip
    return plane, feed


def lose_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> Any:
        raise OperationalError("unable to open database file")

    monkeypatch.setattr(feed_module, "read_changes", fail)


class Parked:
    """A waiter that notes when it is asked to look again."""

    instance: bytes | None = None
    is_woken = False

    def look(self) -> None:
        self.is_woken = True


def sequence_served(plane: Plane, service: str = "checkout") -> int | None:
    slot = plane.store.find_slot("prod", service)
    return slot.stable.snapshot.sequence if slot else None


def test_the_newest_publication_of_each_service_is_served(db: None, tmp_path: Path) -> None:
    publication_row(3)
    publication_row(5, policy={"inbound": {"deadline_ms": 1}})
    publication_row(4, service="")
    token_row()
    token_row(NEWCOMER_TOKEN, "newcomer")
    plane, feed = make_feed(tmp_path)

    feed.load()

    assert answer(plane).json["policy"] == {"inbound": {"deadline_ms": 1}}
    newcomer = answer(plane, "/config/v1/prod/newcomer", token=NEWCOMER_TOKEN)
    assert newcomer.headers["tidegate-sequence"] == "4"
    assert plane.config.is_ready is True


def test_canaries_come_after_what_their_instances_go_back_to(db: None) -> None:
    publication_row(3)
    publication_row(4, canary_ratio=0.1)
    publication_row(6)
    publication_row(7, canary_ratio=0.0)  # the end of the canary, in one transaction with 6
    publication_row(8, service="payments", canary_ratio=0.5)
    publication_row(9)

    found = read_changes(after=Position(4, "4-0-9f3c"), stamp=None)

    assert [(each.cohort, each.sequence) for each in found.publications] == [
        ("", 9),
        ("canary", 7),
        ("canary", 8),
    ]
    assert [(each.ratio, each.salt) for each in found.publications] == [
        (0.0, ""),
        (0.0, "salt"),
        (0.5, "salt"),
    ]
    assert found.reached == Position(9, "9-0-9f3c")


def test_the_snapshot_file_keeps_both_cohorts(db: None, tmp_path: Path) -> None:
    publication_row(3)
    publication_row(4, canary_ratio=0.25, scheduled=[scheduled_entry(4, 1, after_s=60)])
    found = read_changes(after=START, stamp=None)
    path = tmp_path / "snapshots.log"
    log = SnapshotLog(path)

    log.add(News(found.publications), confirmed_at_unix=1.0)
    log.close()

    saved = read_snapshot_file(path)
    assert saved is not None
    assert saved.publications == found.publications


def test_a_second_look_serves_only_what_is_newer(db: None, tmp_path: Path) -> None:
    publication_row(3)
    plane, feed = make_feed(tmp_path)
    feed.load()

    publication_row(6)
    feed.load()

    assert sequence_served(plane) == 6


def test_a_look_that_finds_nothing_new_costs_three_queries(
    db: None, tmp_path: Path, django_assert_num_queries: Any
) -> None:
    for number in range(1, 20):
        publication_row(number, service=f"service-{number}")
        token_row(f"tgs_{number}", f"service-{number}")
    _, feed = make_feed(tmp_path)
    feed.load()

    with django_assert_num_queries(3):
        feed.load()


def test_a_database_that_went_back_in_time_changes_nothing(db: None, tmp_path: Path) -> None:
    publication_row(9)
    plane, feed = make_feed(tmp_path)
    feed.load()
    Publication.objects.all().delete()

    publication_row(4)
    feed.load()

    assert sequence_served(plane) == 9


def test_a_revoked_token_stops_working_with_the_next_look(db: None, tmp_path: Path) -> None:
    publication_row(3)
    token = token_row()
    plane, feed = make_feed(tmp_path)
    feed.load()
    before = answer(plane)

    token.revoked_at = NOW
    token.save()
    feed.load()

    assert (before.status, answer(plane).status) == (200, 401)


def test_a_revocation_wakes_the_polls_of_that_service(db: None, tmp_path: Path) -> None:
    publication_row(3)
    token = token_row()
    plane, feed = make_feed(tmp_path)
    feed.load()
    slot = plane.store.find_slot("prod", "checkout")
    assert slot is not None
    parked = Parked()

    async def take(look: Look) -> bool:
        slot.stable.waiters[parked] = None
        for _ in feed._take(look):
            pass
        await asyncio.sleep(0)
        return parked.is_woken

    waited_on = asyncio.run(take(feed._look()))
    token.revoked_at = NOW
    token.save()

    assert (waited_on, asyncio.run(take(feed._look()))) == (False, True)


def test_scheduled_steps_are_served_from_the_database(db: None, tmp_path: Path) -> None:
    publication_row(3, scheduled=[scheduled_entry(3, 1, after_s=60)])
    token_row()
    clock = Clock()
    plane, feed = make_feed(tmp_path, clock)
    feed.load()

    clock.pass_s(60)

    assert answer(plane).headers["etag"] == '"3-1-9f3c"'


def test_one_damaged_row_does_not_keep_the_others_from_being_served(
    db: None, tmp_path: Path
) -> None:
    publication_row(3, service="payments", scheduled=[{"at": "whenever"}])
    publication_row(4)
    plane, feed = make_feed(tmp_path)

    with capture_logs() as lines:
        feed.load()
        feed.load()

    assert (sequence_served(plane), sequence_served(plane, "payments")) == (4, None)
    assert [line["event"] for line in lines] == ["publication.unreadable"]
    assert lines[0]["sequence"] == 3


def test_snapshots_stay_when_the_database_is_lost_and_say_their_age(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication_row(3)
    token_row()
    clock = Clock()
    plane, feed = make_feed(tmp_path, clock)
    feed.load()
    with monkeypatch.context() as broken, capture_logs() as lines:
        lose_the_database(broken)
        for _ in range(5):
            clock.pass_s(2)
            feed.load()
        during = answer(plane)
    with capture_logs() as later:
        feed.load()
        feed.load()

    assert (during.status, during.headers["age"]) == (200, "10")
    assert "age" not in answer(plane).headers
    assert [line["event"] for line in lines] == ["database.lost"]
    assert [line["event"] for line in later] == ["database.back"]


def test_a_fresh_process_starts_from_the_last_file_without_a_database(
    transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication_row(3, scheduled=[scheduled_entry(3, 1, after_s=60)])
    token_row()
    clock = Clock()
    _, first = make_feed(tmp_path, clock)
    look_and_stop(first)
    lose_the_database(monkeypatch)
    clock.pass_s(90)
    plane, second = make_feed(tmp_path, clock)

    second.load()

    reply = answer(plane)
    assert (reply.status, reply.headers["etag"]) == (200, '"3-1-9f3c"')
    assert reply.headers["age"] == "90"
    assert plane.config.is_ready is True


def test_the_snapshot_file_is_for_this_user_only(transactional_db: None, tmp_path: Path) -> None:
    publication_row(3)
    token_row()
    _, feed = make_feed(tmp_path)

    look_and_stop(feed)

    file = tmp_path / "state" / "snapshots.log"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(os.listdir(file.parent)) == ["snapshots.lock", "snapshots.log"]
    assert b"tgs_" not in file.read_bytes()


def test_without_a_database_and_without_a_file_nothing_is_ready(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_database(monkeypatch)
    plane, feed = make_feed(tmp_path)

    feed.load()

    assert plane.config.is_ready is False


def test_reports_wait_while_the_database_is_lost(
    transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, feed = make_feed(tmp_path)
    note_an_instance(plane)
    written: list[InstanceNote] = []

    def keep(notes: list[InstanceNote], known: Any) -> int:
        written.extend(notes)
        return 0

    def fail(notes: list[Any], known: Any) -> int:
        raise OperationalError("database is locked")

    monkeypatch.setattr(writer_module, "write_reports", fail)
    with capture_logs() as lines:
        asyncio.run(feed.flush())
        asyncio.run(feed.flush())
    monkeypatch.setattr(writer_module, "write_reports", keep)
    asyncio.run(feed.flush())

    assert [line["event"] for line in lines] == ["reports.lost"]
    assert [note.instance_id for note in written] == ["checkout-1"]
    assert len(plane.reports) == 0


def test_a_batch_the_database_refuses_does_not_block_the_next(
    transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, feed = make_feed(tmp_path)
    note_an_instance(plane)

    def refuse(notes: list[Any], known: Any) -> int:
        raise DataError("value too long")

    monkeypatch.setattr(writer_module, "write_reports", refuse)
    with capture_logs() as lines:
        asyncio.run(feed.flush())

    assert [line["event"] for line in lines] == ["reports.refused"]
    assert len(plane.reports) == 0


async def test_a_hint_brings_a_publication_without_waiting_for_the_next_look(
    transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RECONCILE_S", math.inf)  # no look comes by itself
    plane, feed = make_feed(tmp_path)
    looks = asyncio.Queue[int | None]()
    sync = feed.sync

    async def counted() -> None:
        await sync()
        looks.put_nowait(sequence_served(plane))

    feed.sync = counted  # type: ignore[method-assign]
    running = asyncio.create_task(feed.run())
    try:
        async with not_hung():
            assert await looks.get() is None
            await in_thread(publication_row, 3)
            feed.hint()
            while await looks.get() != 3:
                pass
    finally:
        await feed.stop()
    with pytest.raises(asyncio.CancelledError):
        await running


def look_and_stop(feed: Feed) -> None:
    async def story() -> None:
        await feed.sync()
        await feed.stop()

    asyncio.run(story())


def note_an_instance(plane: Plane) -> None:
    plane.store.swap(snapshot(2))
    slot = plane.store.find_slot("prod", "checkout")
    assert slot is not None
    report = Report(b"checkout-1", b'"2-0-9f3c"', None, "", "test")
    plane.reports.note(
        slot, report, (b'"2-0-9f3c"', None), is_fetching=False, now_unix=plane.clock()
    )

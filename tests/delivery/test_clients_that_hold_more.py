"""A client that another node served more than this one knows is never sent less."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controlplane.delivery.hotpath.headers import Report
from controlplane.delivery.hotpath.reports import ReportBuffer
from controlplane.delivery.services.history import History
from tests.delivery.builders import (
    Client,
    Clock,
    VirtualTimeLoop,
    answer,
    begin,
    let_others_run,
    make_plane,
    run_virtually,
    snapshot,
)
from tests.delivery.rows import in_thread, publication_row, token_row
from tests.delivery.test_feed import make_feed

HOLDS_9 = {"If-None-Match": '"9-0-9f3c"', "Tidegate-Instance": "checkout-1"}


def test_its_poll_is_answered_that_nothing_has_changed() -> None:
    plane = make_plane(snapshot(7))

    reply = answer(plane, headers=HOLDS_9)

    assert (reply.status, reply.body) == (304, b"")
    assert plane.store.take_claim() == (9, ("prod", "checkout"))


def test_one_that_holds_less_is_sent_the_present_one_and_claims_nothing() -> None:
    plane = make_plane(snapshot(7))

    reply = answer(plane, headers={"If-None-Match": '"3-0-9f3c"'})

    assert reply.status == 200
    assert plane.store.take_claim() is None


def test_its_long_poll_waits_until_this_node_has_more() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = make_plane(snapshot(7), clock=loop.wall_unix)
        client = Client()
        waiting = begin(plane, client, headers=HOLDS_9 | {"Prefer": "wait=30"})
        await let_others_run()

        for sequence in (8, 9):
            plane.store.swap(snapshot(sequence))
            await let_others_run()
            assert client.messages == []
        plane.store.swap(snapshot(10))
        await waiting

        assert client.reply().headers["tidegate-sequence"] == "10"

    run_virtually(story)


def test_a_stream_that_resumes_later_than_this_node_is_counts_as_well() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = make_plane(snapshot(7), clock=loop.wall_unix)
        client = Client()

        stream = begin(
            plane, client, headers={"Accept": "text/event-stream", "Last-Event-ID": "12"}
        )
        await let_others_run()

        assert plane.store.take_claim() == (12, ("prod", "checkout"))
        client.left.set()
        await asyncio.wait([stream])

    run_virtually(story)


async def test_the_feed_says_when_the_database_does_not_hold_what_instances_hold(
    transactional_db: None, tmp_path: Path
) -> None:
    await in_thread(publication_row, 7)
    await in_thread(token_row)
    plane, feed = make_feed(tmp_path)
    await feed.sync()
    plane.store.note_claim(9, ("prod", "checkout"))

    with capture_logs() as lines:
        await feed.sync()
    await feed.stop()

    assert [line["event"] for line in lines] == ["sequence.behind"]
    assert (lines[0]["claimed"], lines[0]["claimed_by"]) == (9, "prod/checkout")
    assert lines[0]["command"] == "manage.py raise_sequence --above 9"


def test_a_claim_that_nobody_repeats_is_forgotten() -> None:
    history = History()

    with capture_logs() as lines:
        history.compare(newest=7, served=7, claim=(10**17, ("prod", "a")), now_unix=1000.0)
        history.compare(newest=7, served=7, claim=(9, ("prod", "b")), now_unix=1100.0)
        history.compare(newest=7, served=7, claim=(9, ("prod", "b")), now_unix=1200.0)
        history.compare(newest=9, served=9, claim=None, now_unix=1201.0)

    assert [(line["event"], line.get("claimed")) for line in lines] == [
        ("sequence.behind", 10**17),
        ("sequence.behind", 10**17),
        ("sequence.behind", 9),
        ("sequence.caught_up", None),
    ]


@pytest.mark.parametrize("forgotten", [True, False], ids=["forgotten", "known"])
def test_notes_on_instances_are_bounded_while_nobody_writes_them(forgotten: bool) -> None:
    clock = Clock()
    plane = make_plane(snapshot(7), clock=clock)
    slot = plane.store.find_slot("prod", "checkout")
    assert slot is not None
    reports = ReportBuffer(max_instances=3, max_per_service=3)

    for number in range(6):
        report = Report(b"checkout-%d" % number, b'"7-0-9f3c"', None, "", "test")
        reports.note(slot, report, (b'"7-0-9f3c"', None), is_fetching=False, now_unix=clock())
        if forgotten:
            clock.pass_s(300)

    assert (len(reports), reports.dropped_count) == (3, 3)

"""Streams: the present policy, each new one, heartbeats, and a way out that spreads clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from controlplane.delivery.hotpath.asgi import MAX_PIECES, AsgiClient
from controlplane.delivery.hotpath.streams import (
    HEARTBEAT_S,
    LONGEST_LIFE_S,
    RECONNECT_WITHIN_MS,
    SHORTEST_LIFE_S,
)
from tests.delivery.builders import (
    CHECKOUT_TOKEN,
    Client,
    Plane,
    VirtualTimeLoop,
    ask,
    begin,
    let_others_run,
    make_plane,
    run_virtually,
    snapshot,
    token_record,
)

AFTER = {"inbound": {"deadline_ms": 1000}}
STREAM = {"Accept": "text/event-stream", "Tidegate-Instance": "checkout-1"}


@dataclass(slots=True)
class Open:
    """An open stream as its client sees it."""

    client: Client
    task: asyncio.Task[None]

    @property
    def text(self) -> str:
        pieces = [m["body"] for m in self.client.messages if m["type"] == "http.response.body"]
        return b"".join(pieces).decode()

    @property
    def head(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.client.messages[0]["headers"]}

    def events(self) -> list[dict[str, str]]:
        """Return every event with a name, as its fields."""
        found = []
        for block in self.text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "event" in fields:
                found.append(fields)
        return found

    def sequences(self) -> list[int]:
        return [int(event["id"]) for event in self.events() if event["event"] == "config"]


class StayingClient(Client):
    """Stays until the end of a stream, unlike one that waits for a single answer."""

    async def send(self, message: Any) -> None:
        self.messages.append(message)


@asynccontextmanager
async def stream(plane: Plane, **headers: str) -> AsyncIterator[Open]:
    client = StayingClient()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    task = begin(plane, client, headers={**STREAM, **named})
    await let_others_run()
    yield Open(client, task)
    client.left.set()
    await asyncio.wait([task])


def plane_in(loop: VirtualTimeLoop, *snapshots: object, **options: object) -> Plane:
    return make_plane(*snapshots, clock=loop.wall_unix, **options)  # type: ignore[arg-type]


def test_a_stream_begins_with_the_present_policy_and_goes_on_with_each_new_one() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        async with stream(plane) as opened:
            polled = await ask(plane)
            plane.store.swap(snapshot(8, policy=AFTER))
            await let_others_run()

            assert opened.head["content-type"] == "text/event-stream"
            assert opened.sequences() == [7, 8]
            first, second = opened.events()
            assert first["data"].encode() == polled.body
            assert json.loads(second["data"])["policy"] == AFTER
            assert loop.elapsed_s == 0.0
        assert plane.config.held_count == 0

    run_virtually(story)


def test_a_stream_carries_the_signature_of_each_policy() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        plane.store.use_signer(lambda body: b"signed-%d" % len(body))
        async with stream(plane) as opened:
            (event,) = opened.events()

            assert event["signature"] == f"signed-{len(event['data'])}"

    run_virtually(story)


@pytest.mark.parametrize(
    ("last", "sequences"),
    [("", [7, 8]), ("5", [7, 8]), ("7", [8]), ("8", []), ("9", []), ("seven", [7, 8])],
)
def test_a_stream_goes_on_from_what_its_client_had_last(last: str, sequences: list[int]) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        headers = {"Last_Event_ID": last} if last else {}
        async with stream(plane, **headers) as opened:
            plane.store.swap(snapshot(8, policy=AFTER))
            await let_others_run()

            # A client that got 8 or 9 from another node never sees less here.
            assert opened.sequences() == sequences

    run_virtually(story)


def test_a_stream_whose_client_has_the_etag_in_force_is_sent_nothing_at_first() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with stream(plane_in(loop), If_None_Match='"7-0-9f3c"') as opened:
            assert opened.sequences() == []

    run_virtually(story)


@pytest.mark.parametrize(
    ("headers", "sequences"),
    [
        ({"If_None_Match": '"9-0-9f3c"'}, [10]),
        ({"If_None_Match": '"7-0-9f3c", "6-0-9f3c"', "Last_Event_ID": "6"}, [8, 10]),
        ({"If_None_Match": '"6-0-9f3c"', "Last_Event_ID": "6"}, [7, 8, 10]),
    ],
    ids=["more from another node", "refused the present one", "behind"],
)
def test_a_stream_sends_nothing_that_a_poll_would_not(
    headers: dict[str, str], sequences: list[int]
) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        async with stream(plane, **headers) as opened:
            for sequence in (8, 10):
                plane.store.swap(snapshot(sequence))
                await let_others_run()

            assert opened.sequences() == sequences

    run_virtually(story)


def test_a_client_whose_clock_is_ahead_is_not_sent_the_step_before_again() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop, snapshot(7, scheduled=[(20, AFTER)]))
        plane.store.advance()
        await asyncio.sleep(18)
        async with stream(plane, If_None_Match='"7-1-9f3c"', Last_Event_ID="7") as opened:
            await asyncio.sleep(4)
            await let_others_run()

            assert opened.events() == []

    run_virtually(story)


def test_a_scheduled_step_is_sent_when_it_takes_over() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop, snapshot(7, scheduled=[(20, AFTER)]))
        plane.store.advance()
        async with stream(plane) as opened:
            await asyncio.sleep(20.001)
            await let_others_run()

            etags = [json.loads(event["data"])["etag"] for event in opened.events()]
            assert etags == ["7-0-9f3c", "7-1-9f3c"]

    run_virtually(story)


def test_a_silent_stream_beats_once_in_fifteen_seconds() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with stream(plane_in(loop)) as opened:
            before = opened.text
            await asyncio.sleep(4 * HEARTBEAT_S + 1)

            assert opened.text.removeprefix(before) == ":\n\n" * 4

    run_virtually(story)


def test_heartbeats_say_how_old_the_snapshots_are_while_nobody_confirms_them() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        async with stream(plane) as opened:
            plane.store.behind_since_unix = loop.wall_unix() - 5
            await asyncio.sleep(HEARTBEAT_S + 1)

            assert ": stale age=" in opened.text
        async with stream(plane) as opened:
            assert int(opened.head["age"]) >= 20
            assert opened.head["warning"] == '110 tidegate "Response is Stale"'

    run_virtually(story)


def test_a_stream_counts_as_a_sign_of_life_and_never_takes_an_acknowledgement_back() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        async with stream(plane, Tidegate_Applied='"6-0-9f3c"'):
            acknowledged = {**STREAM, "Accept": "*/*", "Tidegate-Applied": '"7-0-9f3c"'}
            await ask(plane, headers={**acknowledged, "If-None-Match": '"7-0-9f3c"'})
            plane.reports.take()
            await asyncio.sleep(2 * HEARTBEAT_S + 1)

            (note,) = plane.reports.take()
            assert note.marks == []
            assert note.seen_at_unix >= loop.wall_unix() - HEARTBEAT_S

    run_virtually(story)


def test_draining_ends_streams_with_a_time_to_come_back_that_differs() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        clients = [StayingClient() for _ in range(20)]
        tasks = [begin(plane, client, headers=STREAM) for client in clients]
        await let_others_run()

        plane.config.drain()
        await asyncio.gather(*tasks)
        late = await ask(plane, headers=STREAM)

        ends = [Open(client, tasks[0]).events()[-1] for client in clients]
        assert {event["event"] for event in ends} == {"reconnect"}
        hints = [json.loads(event["data"]) for event in ends]
        assert {hint["reason"] for hint in hints} == {"draining"}
        assert all(0 < hint["after_ms"] <= RECONNECT_WITHIN_MS for hint in hints)
        assert len({hint["after_ms"] for hint in hints}) > 10
        assert plane.config.held_count == 0
        assert (late.status, late.json["code"]) == (503, "draining")

    run_virtually(story)


def test_a_revoked_token_ends_its_stream_at_once() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        async with stream(plane) as opened:
            for key in plane.tokens.replace([token_record("tgs_other", "checkout")]):
                plane.store.wake(key)
            await let_others_run()

            assert json.loads(opened.events()[-1]["data"])["reason"] == "revoked"
            assert opened.task.done()
            assert loop.elapsed_s == 0.0

    run_virtually(story)


def test_a_stream_ends_when_its_token_expires() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        expires = loop.wall_unix() + 40
        plane.tokens.replace([token_record(CHECKOUT_TOKEN, "checkout", expires_at_unix=expires)])
        async with stream(plane) as opened:
            await opened.task

            assert json.loads(opened.events()[-1]["data"])["reason"] == "revoked"
            assert loop.elapsed_s == 40.0

    run_virtually(story)


def test_an_old_stream_is_ended_so_that_connections_spread_anew() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with stream(plane_in(loop)) as opened:
            await opened.task

            assert json.loads(opened.events()[-1]["data"])["reason"] == "rotate"
            assert SHORTEST_LIFE_S <= loop.elapsed_s <= LONGEST_LIFE_S

    run_virtually(story)


def test_streams_and_polls_share_the_places() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop, max_parked=5)
        tasks = [begin(plane, StayingClient(), headers=STREAM) for _ in range(4)]
        await let_others_run()

        refused = await ask(plane, headers=STREAM)

        assert plane.config.held_count == 4
        assert (refused.status, refused.json["code"]) == (503, "too-many-waiting")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert plane.config.held_count == 0

    run_virtually(story)


def test_a_stream_that_we_fail_to_serve_ends_and_its_client_comes_back() -> None:
    def failing(body: bytes) -> bytes:
        raise RuntimeError("a defect")

    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        with capture_logs() as lines:
            async with stream(plane) as before:
                plane.store.use_signer(failing)
                async with stream(plane) as since:
                    assert [event["event"] for event in since.events()] == ["reconnect"]
                plane.store.swap(snapshot(8))
                await let_others_run()
                assert [event["event"] for event in before.events()] == ["config", "reconnect"]

        assert {line["event"] for line in lines} == {"stream.failed"}
        assert (loop.elapsed_s, plane.config.held_count) == (0.0, 0)

    run_virtually(story)


def test_a_client_that_takes_nothing_is_cut_off() -> None:
    client = AsgiClient(lambda status: None)

    kept = [client.write(b"x") for _ in range(MAX_PIECES + 1)]

    assert kept == [True] * MAX_PIECES + [False]


def test_a_canary_reaches_the_streams_of_its_instances_only_and_never_goes_back() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop, max_parked=200)
        clients = [StayingClient() for _ in range(40)]
        tasks = [
            begin(plane, client, headers={**STREAM, "Tidegate-Instance": f"checkout-{number}"})
            for number, client in enumerate(clients)
        ]
        await let_others_run()

        def seen() -> list[list[int]]:
            return [Open(client, tasks[0]).sequences() for client in clients]

        plane.store.swap(snapshot(8, policy=AFTER, cohort="canary", ratio=0.3, salt="s"))
        await let_others_run()
        early = [sequences for sequences in seen() if sequences == [7, 8]]
        plane.store.swap(snapshot(9))
        plane.store.swap(snapshot(10, cohort="canary", ratio=0.0, salt="s"))
        await let_others_run()

        assert 5 <= len(early) <= 20
        assert {tuple(sequences) for sequences in seen()} == {(7, 9), (7, 8, 9)}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    run_virtually(story)

"""HTTP over real sockets: what hostile, slow and broken clients can do, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from controlplane.delivery.hotpath import connections as connections_module
from controlplane.delivery.hotpath.connections import Limits, Wire
from controlplane.delivery.hotpath.wire import WireConnection
from tests.delivery.builders import VirtualTimeLoop, make_plane, run_virtually
from tests.delivery.wire_server import (
    KNOWN,
    POLL,
    has_arrived,
    read_answer,
    serving,
)
from tests.waiting import eventually, not_hung

HELD = POLL + 'If-None-Match: "7-0-9f3c"\r\nPrefer: wait=30\r\n\r\n'


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /config/v1/prod/checkout HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /config/v1/prod/checkout HTTP/1.1\r\nA: b\x00c\r\n\r\n", 400),
        (b"GET /config/v1/prod/checkout HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (
            b"POST /echo/ HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\n",
            400,
        ),
        (b"POST /echo/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /echo/ HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
        (
            b"POST /echo/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001,
            413,
        ),
        (b"GET /config/v1/prod/checkout HTTP/1.1\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 40_000, 431),
        (b"A" * 40_000, 431),
        (b"\r\n" * 20_000, 431),
        (
            b"POST /echo/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
            b"Content-Length: 39\r\n\r\nGET /livez HTTP/1.1\r\nHost: smuggled\r\n\r\n",
            400,
        ),
        (
            b"POST /echo/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"x" * 70_000,
            400,
        ),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_what_is_no_request_is_answered_once_and_the_connection_ends(
    sent: bytes, status: int
) -> None:
    async with serving() as served:
        said = await served.tell(sent)

        assert said.startswith(f"HTTP/1.1 {status} ".encode())
        assert said.count(b"HTTP/1.1 ") == 1
        assert json.loads(said.split(b"\r\n\r\n", 1)[1])["status"] == status
        assert served.wire.all == set()


async def test_garbage_is_logged_once_however_often_it_comes() -> None:
    async with serving() as served:
        with capture_logs() as lines:
            for _ in range(20):
                await served.tell(b"\x00\x01garbage\r\n\r\n")

        assert [line["event"] for line in lines] == ["connection.ended"]
        assert served.wire.end_counts == {"malformed": 20}


@pytest.mark.parametrize(
    ("sent", "after_s", "reason"),
    [
        (b"", 10, "idle"),
        (b"GET /config", 10, "slow head"),
        (b"POST /echo/ HTTP/1.1\r\nContent-Length: 9\r\n\r\nslow", 20, "slow body"),
        (KNOWN.encode(), 75, "idle"),
    ],
)
async def test_a_connection_that_takes_too_long_is_ended(
    sent: bytes, after_s: int, reason: str
) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(sent)
        await eventually(lambda: served.wire.all and (not sent or has_arrived(served)))

        served.pass_s(after_s)
        assert served.wire.end_counts == {}
        served.pass_s(1)
        async with not_hung():
            await reader.read()

        assert served.wire.end_counts == {reason: 1}
        writer.close()


async def test_a_head_that_trickles_in_gains_no_time_by_it() -> None:
    async with serving() as served:
        reader, _ = await served.connect()
        await eventually(lambda: served.wire.all)
        (connection,) = served.wire.all
        for letter in b"GET /confi":
            connection.data_received(bytes([letter]))  # type: ignore[attr-defined]
            served.pass_s(1)
        assert served.wire.end_counts == {}
        connection.data_received(b"g")  # type: ignore[attr-defined]
        served.pass_s(1)
        async with not_hung():
            said = await reader.read()

        assert said.startswith(b"HTTP/1.1 408 ")
        assert served.wire.end_counts == {"slow head": 1}


async def test_a_body_that_trickles_in_gains_no_time_by_it() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(b"POST /echo/ HTTP/1.1\r\nContent-Length: 900\r\n\r\n")
        await eventually(lambda: served.wire.all and has_arrived(served))
        (connection,) = served.wire.all
        for _ in range(21):
            connection.data_received(b"x")  # type: ignore[attr-defined]
            served.pass_s(1)
        async with not_hung():
            said = await reader.read()

        assert said.startswith(b"HTTP/1.1 408 ")
        assert served.wire.end_counts == {"slow body": 1}
        writer.close()


async def test_connections_that_show_no_token_make_room_for_the_newest() -> None:
    async with serving(limits=Limits(unproven=5)) as served:
        reader, writer = await served.connect()
        writer.write(KNOWN.encode())
        await read_answer(reader)  # this one has shown its token
        idle = [await served.connect() for _ in range(12)]
        await eventually(lambda: served.wire.end_counts.get("evicted", 0) >= 7)

        writer.write(KNOWN.encode())
        assert (await read_answer(reader))[0] == 304
        assert len(served.wire.all) == 6
        for _, each in [(reader, writer), *idle]:
            each.close()


async def test_what_anybody_may_ask_for_keeps_no_place_but_the_time_between_requests() -> None:
    async with serving(limits=Limits(unproven=5)) as served:
        reader, writer = await served.connect()
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_answer(reader))[0] == 200
        served.pass_s(75)
        assert served.wire.end_counts == {}

        idle = [await served.connect() for _ in range(5)]
        await eventually(lambda: served.wire.end_counts)

        assert served.wire.end_counts == {"evicted": 1}
        assert await reader.read() == b""
        for _, each in [(reader, writer), *idle]:
            each.close()


def test_a_wire_counts_seconds_and_says_the_time_of_each_tenth_of_them() -> None:
    async def story(loop: VirtualTimeLoop) -> tuple[int, int, bytes, int]:
        wire = Wire(make_plane().delivery, clock=loop.wall_unix)
        wire.start(set(), asyncio.Protocol)
        await asyncio.sleep(12.05)
        wire.stop()
        tick, beats, date_line = wire.tick, wire._beats, wire.date_line
        await asyncio.sleep(10)
        return tick, beats, date_line, wire.tick

    tick, beats, date_line, tick_later = run_virtually(story)

    assert (tick, beats, tick_later) == (12, 120, 12)
    assert date_line.startswith(b"date: Mon, 02 Nov 2026 02:14:1")


async def test_many_connections_at_once_are_no_more_than_many_one_by_one() -> None:
    plane = make_plane()
    wire = Wire(plane.delivery, limits=Limits(unproven=5))
    evicted: list[object] = []

    class Newcomer(WireConnection):
        def evict(self) -> None:
            evicted.append(self)

    crowd = [Newcomer(wire) for _ in range(20)]
    for each in crowd:
        assert wire.admit(each) is None

    assert evicted == crowd[:15]


async def test_a_connection_that_fails_leaves_nobody_unanswered_or_unswept() -> None:
    wire = Wire(make_plane().delivery)
    served: list[str] = []

    class Defective(WireConnection):
        def go_on(self) -> None:
            served.append("went on")
            raise RuntimeError("a defect")

        def sweep(self) -> None:
            served.append("swept")
            raise RuntimeError("a defect")

    crowd = [Defective(wire) for _ in range(3)]
    with capture_logs() as lines:
        for each in crowd:
            assert wire.admit(each) is None
            wire._postponed.append(each)
        wire._work_some()
        wire.sweep()

    assert served == ["went on"] * 3 + ["swept"] * 3
    assert [line["event"] for line in lines] == ["connection.failed"] * 6


async def test_one_connection_too_many_is_told_when_to_come_back() -> None:
    async with serving(limits=Limits(connections=2)) as served:
        kept = [await served.connect() for _ in range(2)]
        for _, writer in kept:
            writer.write(HELD.encode())
        await eventually(lambda: served.plane.config.held_count >= 2)

        said = await served.tell(b"")

        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: " in said
        for _, writer in kept:
            writer.close()


async def test_connections_that_idle_make_room_and_those_that_are_held_do_not() -> None:
    async with serving(limits=Limits(connections=3)) as served:
        clients = [await served.connect() for _ in range(3)]
        for (reader, writer), request in zip(clients, (KNOWN, HELD, KNOWN), strict=True):
            writer.write(request.encode())
            if request is KNOWN:
                await read_answer(reader)
            served.wire.tick += 1
        await eventually(lambda: served.plane.config.held_count == 1)

        newcomer = await served.connect()
        newcomer[1].write(KNOWN.encode())

        assert (await read_answer(newcomer[0]))[0] == 304
        assert await clients[0][0].read() == b""
        assert served.wire.end_counts == {"evicted": 1}
        assert served.plane.config.held_count == 1
        for _, writer in (*clients, newcomer):
            writer.close()


async def test_a_connection_whose_token_is_revoked_is_a_stranger_s_again() -> None:
    async with serving(limits=Limits(unproven=1)) as served:
        reader, writer = await served.connect()
        writer.write(KNOWN.encode())
        await read_answer(reader)
        served.plane.tokens.replace([])
        writer.write(KNOWN.encode())
        assert (await read_answer(reader))[0] == 401

        _, newcomer = await served.connect()

        assert await reader.read() == b""
        assert served.wire.end_counts == {"evicted": 1}
        for each in (writer, newcomer):
            each.close()


async def test_a_full_house_is_searched_once_in_a_tenth_of_a_second() -> None:
    async with serving(limits=Limits(connections=1)) as served:
        _, writer = await served.connect()
        writer.write(HELD.encode())
        await eventually(lambda: served.plane.config.held_count == 1)
        looks: list[int] = []
        (connection,) = served.wire._swept
        served.wire._swept = Watched({connection}, looks)
        served.wire._beats, served.wire._searched_at = 5, 5

        for _ in range(3):
            assert (await served.tell(b"")).startswith(b"HTTP/1.1 503 ")

        assert looks == []
        writer.close()


class Watched(set[Any]):
    """A set that notes when somebody goes through all of it."""

    def __init__(self, members: set[Any], looks: list[int]) -> None:
        super().__init__(members)
        self._looks = looks

    def __iter__(self) -> Iterator[Any]:
        self._looks.append(len(self))
        return super().__iter__()


async def test_requests_that_are_sent_at_once_are_answered_in_turn_with_everybody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as served:
        greedy, honest = await served.connect(), await served.connect()
        honest[1].write(KNOWN.encode())
        await read_answer(honest[0])
        await eventually(lambda: len(served.wire.all) == 2)
        with monkeypatch.context() as stalling:
            # So slow a machine that the time of a turn is over before anything is answered.
            lapses = SimpleNamespace(perf_counter=count(step=60).__next__)
            stalling.setattr(connections_module, "time", lapses)
            greedy[1].write(b"GET /livez HTTP/1.1\r\n\r\n" * 1_000)
            await eventually(lambda: served.wire._taking_turns)
            honest[1].write(KNOWN.encode())
            await read_answer(honest[0])
            answered = served.plane.delivery.answer_counts[200]
        async with not_hung():
            said = b"".join([await greedy[0].readuntil(b"alive\n") for _ in range(1_000)])

        assert answered == 1
        assert said.count(b"HTTP/1.1 200 OK") == 1_000
        for _, writer in (greedy, honest):
            writer.close()


async def test_a_stranger_may_not_send_thousands_of_requests_at_once() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(b"GET /livez HTTP/1.1\r\n\r\n" * 10_000)
        async with not_hung():
            with contextlib.suppress(ConnectionError):
                await reader.read()
        await eventually(lambda: not served.wire.all)

        assert served.wire.end_counts == {"pipelined too much": 1}
        writer.close()

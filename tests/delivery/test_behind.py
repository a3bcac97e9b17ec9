"""Connections that were handed over to what stands behind the delivery plane, and their bounds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from controlplane.delivery.hotpath.connections import Limits
from controlplane.delivery.process import nothing_behind
from controlplane.delivery.server import BehindProtocol, is_worth_a_line, limits_of
from tests.delivery.wire_server import KNOWN, Served, read_answer, serving
from tests.waiting import eventually, not_hung

PAGE = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serving_behind(limits: Limits, page: Any = nothing_behind) -> AsyncIterator[Served]:
    config = uvicorn.Config(page, ws="none", lifespan="off", log_config=None)
    async with serving(limits=limits) as served:
        state = ServerState()
        state.connections = served.wire.all  # type: ignore[assignment]
        served.wire.successor = lambda: BehindProtocol(
            wire=served.wire, config=config, server_state=state, app_state={}
        )
        try:
            yield served
        finally:
            for task in state.tasks:
                task.cancel()
            await asyncio.gather(*state.tasks, return_exceptions=True)


async def open_page(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await served.connect()
    writer.write(PAGE)
    assert (await read_answer(reader))[0] == 404
    return reader, writer


async def test_pages_take_no_more_than_their_own_places_and_the_quietest_makes_room() -> None:
    async with serving_behind(Limits(behind=3)) as served:
        reader, writer = await served.connect()
        writer.write(KNOWN.encode())
        await read_answer(reader)
        first, second, third = [await open_page(served) for _ in range(3)]
        first[1].write(PAGE)
        assert (await read_answer(first[0]))[0] == 404

        fourth = await open_page(served)

        assert await second[0].read() == b""
        for page in (first, third, fourth):
            page[1].write(PAGE)
            assert (await read_answer(page[0]))[0] == 404
        assert served.wire.end_counts == {"evicted": 1}
        for each in (reader, writer), first, second, third, fourth:
            each[1].close()
        await eventually(lambda: not served.wire.all)


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /page HTTP/1.1\r\nA: ",
        b"POST /page HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ",
        b"POST /page HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    ],
    ids=["head", "trailers", "chunk extension"],
)
async def test_what_never_becomes_a_request_is_read_within_bounds(endless: bytes) -> None:
    async with serving_behind(Limits()) as served:
        _, writer = await open_page(served)
        writer.write(endless)
        with pytest.raises(ConnectionError):
            await go_on_for_ever(writer)
        await eventually(lambda: not served.wire.all)

        assert served.wire.end_counts == {"head too large": 1}


async def go_on_for_ever(writer: asyncio.StreamWriter) -> None:
    """Send as much as the other side takes, whatever it reads at once."""
    async with not_hung():
        while True:
            writer.write(b"x" * 1_000)
            await writer.drain()
            await asyncio.sleep(0)


async def test_a_body_that_trickles_is_ended_as_one_for_the_plane_itself_is() -> None:
    async with serving_behind(Limits()) as served:
        reader, writer = await open_page(served)
        writer.write(b"POST /page HTTP/1.1\r\nContent-Length: 900\r\n\r\n")
        await eventually(lambda: is_in_body(served))
        (page,) = served.wire._behind
        for _ in range(20):
            page.data_received(b"x")  # type: ignore[attr-defined]
            served.pass_s(1)
        assert served.wire.end_counts == {}
        page.data_received(b"x")  # type: ignore[attr-defined]
        served.pass_s(1)
        async with not_hung():
            await reader.read()
        await eventually(lambda: not served.wire.all)

        assert served.wire.end_counts == {"slow body": 1}


def is_in_body(served: Served) -> bool:
    (page,) = served.wire._behind
    return bool(page._is_in_body)  # type: ignore[attr-defined]


def has_taken_its_place(served: Served, stranger: int) -> bool:
    """Of three places the first is the honest one's."""
    is_evicted = served.wire.end_counts.get("evicted", 0) == max(0, stranger - 2)
    newest = list(served.wire._behind)[-1]
    return is_evicted and newest.stage == 1 and len(served.wire._behind) == min(3, stranger + 1)


async def test_who_waits_for_a_page_makes_no_room_for_strangers() -> None:
    is_let_go = asyncio.Event()

    async def slow_page(scope: Any, receive: Any, send: Any) -> None:
        await is_let_go.wait()
        await nothing_behind(scope, receive, send)

    async with serving_behind(Limits(behind=3), slow_page) as served:
        honest = await served.connect()
        honest[1].write(PAGE)
        await eventually(lambda: served.wire._behind)
        strangers = []
        for number in range(1, 7):
            strangers.append(await served.connect())
            strangers[-1][1].write(b"POST /page HTTP/1.1\r\nContent-Length: 2\r\n\r\nx")
            await eventually(partial(has_taken_its_place, served, number))
        is_let_go.set()

        assert (await read_answer(honest[0]))[0] == 404
        for _, writer in (honest, *strangers):
            writer.close()
        await eventually(lambda: not served.wire.all)


async def test_pages_that_are_asked_for_all_at_once_are_too_many() -> None:
    async with serving_behind(Limits()) as served:
        reader, writer = await served.connect()
        writer.write(PAGE * 2_000)
        async with not_hung():
            with contextlib.suppress(ConnectionError):
                await reader.read()
        await eventually(lambda: not served.wire.all)

        assert served.wire.end_counts == {"malformed": 1}
        assert served.wire.all == set()
        writer.close()


async def test_a_long_body_is_no_endless_head() -> None:
    async with serving_behind(Limits()) as served:
        reader, writer = await open_page(served)
        writer.write(b"POST /page HTTP/1.1\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000)
        assert (await read_answer(reader))[0] == 404
        writer.write(PAGE)
        assert (await read_answer(reader))[0] == 404
        writer.close()


async def test_garbage_is_counted_and_logged_once_however_often_it_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.handler.addFilter(is_worth_a_line)
    async with serving_behind(Limits()) as served:
        with capture_logs() as lines:
            for _ in range(3):
                reader, writer = await open_page(served)
                writer.write(b"\x00garbage\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
                writer.close()
            reader, writer = await served.connect()
            writer.write(
                PAGE.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: websocket\r\nHost")
            )
            assert (await read_answer(reader))[0] == 404
            writer.close()

        assert served.wire.end_counts == {"malformed": 3}
        assert [line["event"] for line in lines] == ["connection.ended"]
        assert caplog.records == []


def test_with_few_files_most_places_are_still_for_those_with_a_token() -> None:
    limits = limits_of(200)

    assert (limits.connections, limits.unproven, limits.behind) == (200, 50, 50)
    assert (limits_of(14_000).unproven, limits_of(14_000).behind) == (2_000, 1_000)

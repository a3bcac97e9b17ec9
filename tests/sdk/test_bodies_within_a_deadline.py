"""A response's body ends before the deadline of the request that it is read for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tidegate import DeadlineExceeded
from tidegate.clock import monotonic_s
from tidegate.outgoing import DeadlineStream

LONG_S = 60.0
SHORT_S = 0.02


class Body(httpx.AsyncByteStream):
    """A body made by a function, which notes what it is told at its end."""

    def __init__(self, chunks: Callable[[], AsyncGenerator[bytes, None]]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()


def within(seconds: float, chunks: Callable[[], AsyncGenerator[bytes, None]]) -> DeadlineStream:
    return DeadlineStream(Body(chunks), monotonic_s() + seconds, monotonic_s, "payments")


async def read(body: httpx.AsyncByteStream) -> list[bytes]:
    return [chunk async for chunk in body]


async def in_one_piece() -> AsyncGenerator[bytes, None]:
    yield b"{}"


async def in_drips() -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    for number in range(3):
        await asyncio.sleep(0)
        ready = loop.create_future()
        loop.call_soon(ready.set_result, b"%d" % number)
        yield await ready
    await asyncio.sleep(0.001)


async def never_more() -> AsyncGenerator[bytes, None]:
    yield b"first"
    await asyncio.Event().wait()


async def test_what_is_here_already_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[Any] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda *arguments: timers.append(arguments))

    chunks = await read(within(LONG_S, in_one_piece))

    assert chunks == [b"{}"]
    assert not timers


async def test_what_comes_after_several_waits_comes_whole_and_leaves_no_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    call_later, timers = loop.call_later, []

    def noted(delay_s: float, *rest: Any) -> asyncio.TimerHandle:
        timer = call_later(delay_s, *rest)
        if delay_s > 1.0:
            timers.append(timer)
        return timer

    monkeypatch.setattr(loop, "call_later", noted)

    chunks = await read(within(LONG_S, in_drips))

    assert chunks == [b"0", b"1", b"2"]
    assert [timer.cancelled() for timer in timers] == [True] * 4  # three chunks and the end


async def test_a_body_that_waits_too_long_is_told_and_then_its_reader() -> None:
    told: list[str] = []

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"first"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    with pytest.raises(DeadlineExceeded):
        await read(within(SHORT_S, chunks))

    assert told == ["cancelled"]


async def test_after_the_deadline_only_what_is_here_already_is_read() -> None:
    stream = within(-1.0, never_more)
    chunks = aiter(stream)

    assert await anext(chunks) == b"first"
    with pytest.raises(DeadlineExceeded):
        await anext(chunks)


@pytest.mark.parametrize("waits", [False, True])
async def test_an_error_of_the_body_is_the_reader_s(waits: bool) -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        if waits:
            await asyncio.sleep(0.001)
        raise httpx.ReadError("connection reset")
        yield b""

    with pytest.raises(httpx.ReadError, match="connection reset"):
        await read(within(LONG_S, chunks))


async def test_a_reader_that_is_cancelled_is_cancelled_and_its_body_too() -> None:
    told = asyncio.Event()
    waiting = asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            waiting.set()
            await asyncio.Event().wait()
        finally:
            told.set()
        yield b"never"

    reader = asyncio.ensure_future(read(within(LONG_S, chunks)))
    await waiting.wait()
    reader.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reader
    assert told.is_set()


async def test_what_a_body_makes_of_a_cancellation_is_what_its_reader_gets() -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            yield b"what was left"

    reader = asyncio.ensure_future(read(within(LONG_S, chunks)))
    await asyncio.sleep(0)
    reader.cancel()

    assert await reader == [b"what was left"]

"""One open stream of policies: its chunks watched for silence, and read as events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx

from tidegate.sse import (
    MAX_EVENT_BYTES,
    MAX_LINE_BYTES,
    Event,
    EventParser,
    MalformedStream,
)

HEARTBEAT_S = 15.0
SILENCE_S = 2.5 * HEARTBEAT_S  # a stream that is silent for longer is dead


class StreamEnded(Exception):
    """An open stream is over without a word from the server; `was_silent` when it just died."""

    def __init__(self, reason: str, *, was_silent: bool = False) -> None:
        super().__init__(reason)
        self.was_silent = was_silent


class PolicyStream:
    """Events as they come, over `chunks` of a response that has begun."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._parser = EventParser(max_line_bytes=MAX_LINE_BYTES, max_event_bytes=MAX_EVENT_BYTES)
        self._first = b""

    @property
    def retry_s(self) -> float | None:
        """How long the server wants to be left alone afterwards; None when it said nothing."""
        retry_ms = self._parser.retry_ms
        return None if retry_ms is None else retry_ms / 1000.0

    async def begin(self, at_most_s: float) -> None:
        """Wait for the first chunk.

        Raises:
            StreamEnded: it did not come in time, or never will.
        """
        self._first = await self._next(at_most_s)

    async def read(self) -> list[Event]:
        """Wait for the next chunk; the events that it completes, none when it is a heartbeat.

        Raises:
            StreamEnded: cut, silent for too long, or not a stream of events.
        """
        chunk, self._first = self._first, b""
        if not chunk:
            chunk = await self._next(SILENCE_S)
        try:
            return list(self._parser.feed(chunk))
        except MalformedStream as problem:
            raise StreamEnded(str(problem)) from None

    async def _next(self, at_most_s: float) -> bytes:
        try:
            async with asyncio.timeout(at_most_s):
                return await anext(self._chunks)
        except TimeoutError:
            raise StreamEnded(f"silent for {at_most_s:g} s", was_silent=True) from None
        except StopAsyncIteration:
            raise StreamEnded("cut") from None
        except httpx.HTTPError as problem:
            raise StreamEnded(f"{type(problem).__name__}: {problem}".rstrip(": ")) from None

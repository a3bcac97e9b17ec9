"""What the transport changes on a request before it is sent, and on a response after."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from typing import Any

import httpx

from tidegate.clock import Clock
from tidegate.context import (
    CRITICALITY_HEADER,
    DEADLINE_HEADER,
    REQUEST_ID_HEADER,
    TENANT_HEADER,
    header_bytes,
    outgoing_headers,
)
from tidegate.deadline import Deadline
from tidegate.errors import DeadlineExceeded

_KEYS = {
    name: name.lower().encode()
    for name in (REQUEST_ID_HEADER, CRITICALITY_HEADER, TENANT_HEADER, DEADLINE_HEADER)
}
_SHORTEST_S = 0.001


def add_context_headers(request: httpx.Request, now_s: float) -> None:
    """Carry request ID, criticality, tenant and remaining deadline on to the dependency.

    What the caller set itself stays, except the deadline, which shrinks with each attempt.
    """
    carried = outgoing_headers(now_s)
    if not carried:
        return
    raw = request.headers.raw
    present = {name.lower() for name, _ in raw}
    if DEADLINE_HEADER in carried and _KEYS[DEADLINE_HEADER] in present:
        request.headers[DEADLINE_HEADER] = carried[DEADLINE_HEADER]
        raw = request.headers.raw
    missing = [
        (_KEYS[name], header_bytes(value))
        for name, value in carried.items()
        if _KEYS[name] not in present
    ]
    if missing:
        request.headers = httpx.Headers(raw + missing)


def limit_timeouts(request: httpx.Request, connect_s: float, limit_s: float) -> None:
    """Cap what the caller asked for: waiting for a connection, connecting, and each read."""
    asked = request.extensions.get("timeout") or {}
    if isinstance(asked, ShrinkingTimeouts):  # of the attempt before, which has used them up
        asked = asked.caps
    connect_s = min(connect_s, limit_s)
    request.extensions["timeout"] = {
        "connect": _least(asked.get("connect"), connect_s),
        "read": _least(asked.get("read"), limit_s),
        "write": _least(asked.get("write"), limit_s),
        "pool": _least(asked.get("pool"), connect_s),
    }


def _least(asked_s: float | None, cap_s: float) -> float:
    return cap_s if asked_s is None or asked_s > cap_s else asked_s


class ShrinkingTimeouts(Mapping[str, float]):
    """httpx timeouts that never reach beyond an instant, whenever they are looked up.

    Nothing can cancel a call in a thread. But httpcore looks the timeouts up anew for each of its
    steps (pool, connect, write, read), so the steps together keep one limit. What no timeout can
    bound is a head that comes in drips: each of them starts the read anew.
    """

    def __init__(self, caps: Mapping[str, float], ends_at_s: float, clock: Clock) -> None:
        self._caps = caps
        self._ends_at_s: float | None = ends_at_s
        self._clock = clock

    def __getitem__(self, name: str) -> float:
        cap_s = self._caps[name]
        if self._ends_at_s is None:
            return cap_s
        # Zero would mean not to wait at all, which sockets report as another error.
        return max(_SHORTEST_S, min(cap_s, self._ends_at_s - self._clock()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._caps)

    def __len__(self) -> int:
        return len(self._caps)

    @property
    def caps(self) -> Mapping[str, float]:
        """The timeouts that nothing has shrunk."""
        return self._caps

    def end_in(self, seconds: float) -> None:
        """Reach no further than this from now."""
        self._ends_at_s = self._clock() + seconds

    def end_at(self, at_s: float | None) -> None:
        """Reach up to this instant; None leaves the caps alone."""
        self._ends_at_s = at_s


def is_replayable(request: httpx.Request) -> bool:
    """Whether the body can be sent twice: it is in memory, or its maker says it can be.

    A caller with a stream that restarts says so by `extensions={"tidegate_replayable": True}`.
    """
    if isinstance(request.stream, httpx.ByteStream):
        return True
    return request.extensions.get("tidegate_replayable") is True


class DeadlineStream(httpx.AsyncByteStream):
    """A response body that must end before the deadline of the request it is read for."""

    def __init__(
        self, body: httpx.AsyncByteStream, deadline_at_s: float, clock: Clock, dependency: str
    ) -> None:
        self._body = body
        self._deadline_at_s = deadline_at_s
        self._clock = clock
        self._dependency = dependency

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _BoundedChunks(aiter(self._body), self._deadline_at_s, self._clock, self._dependency)

    async def aclose(self) -> None:
        """Close the body, read or not."""
        await self._body.aclose()


class _BoundedChunks:
    """The chunks of a body, none waited for beyond an instant.

    Each has a limit of its own: one around them all would cancel the reader's own work. And only
    one that must be waited for has any: most bodies came with their head, and setting a timer
    for what is here already would cost more than reading it.
    """

    __slots__ = ("_chunks", "_clock", "_deadline_at_s", "_dependency")

    def __init__(
        self, chunks: AsyncIterator[bytes], deadline_at_s: float, clock: Clock, dependency: str
    ) -> None:
        self._chunks = chunks
        self._deadline_at_s = deadline_at_s
        self._clock = clock
        self._dependency = dependency

    def __aiter__(self) -> _BoundedChunks:
        return self

    def __anext__(self) -> _BoundedChunks:
        return self

    def __await__(self) -> Generator[Any, Any, bytes]:
        steps = self._chunks.__anext__().__await__()
        try:
            awaited = next(steps)
        except StopIteration as here:
            chunk: bytes = here.value
            return chunk
        with Deadline(max(0.0, self._deadline_at_s - self._clock())):
            return (yield from _resume(steps, awaited))
        raise DeadlineExceeded(self._dependency)


def _resume(steps: Generator[Any, Any, bytes], awaited: object) -> Generator[Any, Any, bytes]:
    """`yield from` for what has begun already, and awaits this."""
    try:
        while True:
            try:
                sent = yield awaited
            except BaseException as error:  # whatever it is, it is for what waits
                awaited = steps.throw(error)
            else:
                awaited = steps.send(sent)
    except StopIteration as here:
        chunk: bytes = here.value
        return chunk


class SyncDeadlineStream(httpx.SyncByteStream):
    """As `DeadlineStream`, for a body that is read in a thread: looked at between its chunks."""

    def __init__(
        self, body: httpx.SyncByteStream, deadline_at_s: float, clock: Clock, dependency: str
    ) -> None:
        self._body = body
        self._deadline_at_s = deadline_at_s
        self._clock = clock
        self._dependency = dependency

    def __iter__(self) -> Iterator[bytes]:
        chunks = iter(self._body)
        while True:
            try:
                chunk = next(chunks, None)
            except httpx.TimeoutException as problem:
                if self._clock() < self._deadline_at_s:
                    raise
                raise DeadlineExceeded(self._dependency) from problem
            if chunk is None:
                return
            if self._clock() >= self._deadline_at_s:
                raise DeadlineExceeded(self._dependency)
            yield chunk

    def close(self) -> None:
        """Close the body, read or not."""
        self._body.close()

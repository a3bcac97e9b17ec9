"""What the transport changes on a request before it is sent, and on a response after."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from tidegate.clock import Clock
from tidegate.context import DEADLINE_HEADER, outgoing_headers
from tidegate.deadline import Deadline
from tidegate.errors import DeadlineExceeded

_DEADLINE = DEADLINE_HEADER.lower().encode()
_TIMEOUTS = ("connect", "read", "write", "pool")


def add_context_headers(request: httpx.Request, now_s: float) -> None:
    """Carry request ID, criticality, tenant and remaining deadline on to the dependency.

    What the caller set itself stays, except the deadline, which shrinks with each attempt.
    """
    carried = outgoing_headers(now_s)
    if not carried:
        return
    raw = request.headers.raw
    present = {name.lower() for name, _ in raw}
    missing = []
    for name, value in carried.items():
        key = name.lower().encode()
        if key not in present:
            missing.append((key, value.encode()))
        elif key == _DEADLINE:
            request.headers[name] = value
    if missing:
        request.headers = httpx.Headers([*request.headers.raw, *missing])


def limit_timeouts(request: httpx.Request, connect_s: float, limit_s: float) -> None:
    """Cap what the caller asked for: waiting for a connection, connecting, and each read."""
    asked = request.extensions.get("timeout") or {}
    caps = (min(connect_s, limit_s), limit_s, limit_s, min(connect_s, limit_s))
    timeouts = {}
    for name, cap_s in zip(_TIMEOUTS, caps, strict=True):
        asked_s = asked.get(name)
        timeouts[name] = cap_s if asked_s is None or asked_s > cap_s else asked_s
    request.extensions["timeout"] = timeouts


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

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._body)
        while True:
            # One limit per chunk: one around the yield would cancel the reader's own work.
            chunk = None
            try:
                with Deadline(max(0.0, self._deadline_at_s - self._clock())):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            if chunk is None:
                raise DeadlineExceeded(self._dependency)
            yield chunk

    async def aclose(self) -> None:
        """Close the body, read or not."""
        await self._body.aclose()

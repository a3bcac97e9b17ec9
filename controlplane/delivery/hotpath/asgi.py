"""The delivery plane as an ASGI application, for any server and for tests.

`hotpath.wire` speaks HTTP itself and is faster; both ask the same plane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from typing import Any

from controlplane.delivery.hotpath.plane import DeliveryPlane
from controlplane.delivery.hotpath.problems import Answer, Refusal, problem_answer
from controlplane.delivery.hotpath.requests import Request, body_too_large

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
MAX_PIECES = 64
"""So many pieces of a stream may wait for a slow client; one more and it is cut off."""


class ClientLeft(Exception):
    """The client went away in the middle of its request."""


class AsgiClient:
    """One client behind an ASGI server: pieces wait in a queue until the server takes them."""

    def __init__(self, count: Callable[[int], None]) -> None:
        self._count = count
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()

    def finish(self, answer: Answer) -> None:
        """Send the answer to a request that was held."""
        self._count(answer.status)
        for message in _messages(answer):
            self._messages.put_nowait(message)
        self._messages.put_nowait(None)

    def open_stream(self, answer: Answer) -> None:
        """Send the head of an answer whose body follows piece by piece."""
        self._count(answer.status)
        self._messages.put_nowait(_start(answer))

    def write(self, piece: bytes) -> bool:
        """Send a piece of the body; False when too many wait already."""
        if self._messages.qsize() >= MAX_PIECES:
            self.close_stream()
            return False
        self._messages.put_nowait({"type": "http.response.body", "body": piece, "more_body": True})
        return True

    def close_stream(self) -> None:
        """End the body."""
        self._messages.put_nowait({"type": "http.response.body", "body": b""})
        self._messages.put_nowait(None)

    def leave(self) -> None:
        """Send nothing more: the client is gone."""
        self._messages.put_nowait(None)

    async def send_all(self, send: Send) -> None:
        """Send what comes until the answer is complete."""
        while (message := await self._messages.get()) is not None:
            await send(message)


class AsgiPlane:
    """ASGI application around a delivery plane.

    `clock` is for where no server adds the `Date` header by which clients correct their clocks:
    wall time in Unix seconds. uvicorn and granian add it themselves.
    """

    def __init__(self, plane: DeliveryPlane, clock: Callable[[], float] | None = None) -> None:
        self._plane = plane
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        plane = self._plane
        if self._clock is not None:
            send = _dated(send, self._clock)
        client = AsgiClient(plane.count)
        try:
            body = await _read_body(scope, receive, plane.max_body_bytes(scope["path"]))
        except Refusal as refusal:
            await _send(send, problem_answer(refusal), scope["method"])
            return
        except ClientLeft:
            return
        request = Request(
            scope["method"], scope["path"], scope["query_string"], scope["headers"], body
        )
        answer, _ = plane.respond(request, client)
        if isinstance(answer, Answer):
            await _send(send, answer, scope["method"])
            return
        watcher = asyncio.create_task(_watch(receive, client))
        try:
            await client.send_all(send)
        finally:
            answer.cancel()
            watcher.cancel()


def _dated(send: Send, clock: Callable[[], float]) -> Send:
    async def send_dated(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"].append((b"date", formatdate(clock(), usegmt=True).encode()))
        await send(message)

    return send_dated


async def _watch(receive: Receive, client: AsgiClient) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    client.leave()


async def _read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    if not any(name in _BODY_HEADERS for name, _ in scope["headers"]):
        return b""  # and nothing is received, which a held poll does to hear the client leave
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise body_too_large(max_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(send: Send, answer: Answer, method: str) -> None:
    start, body = _messages(answer)
    await send(start)
    await send({"type": "http.response.body", "body": b""} if method == "HEAD" else body)


def _messages(answer: Answer) -> tuple[Message, Message]:
    return _start(answer), {"type": "http.response.body", "body": answer.body}


def _start(answer: Answer) -> Message:
    # A list of its own: middleware around this may add to it, and the answer is shared.
    return {
        "type": "http.response.start", "status": answer.status, "headers": list(answer.headers),
    }  # fmt: skip

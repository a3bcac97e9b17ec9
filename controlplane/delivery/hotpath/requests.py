"""What the addresses of delivery share: requests, bounded bodies, answers."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.delivery.hotpath.problems import Answer, Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(slots=True)
class Request:
    """One HTTP request, its body complete. Header names are in lower case."""

    method: str
    path: str
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes = b""

    def header(self, name: bytes) -> bytes | None:
        """Return a header by its lower-case name; None when absent.

        Raises:
            Refusal: 400, it is there more than once.
        """
        values = [value for key, value in self.headers if key == name]
        if len(values) > 1:
            shown = name.decode().title()
            raise Refusal(400, "repeated-header", f"{shown} appears more than once", field=shown)
        return values[0] if values else None


class ClientLeft(Exception):
    """The client went away in the middle of its request."""


async def read_body(receive: Receive, *, max_bytes: int) -> bytes:
    """Return the whole body of a request.

    Raises:
        Refusal: 413, it holds more than `max_bytes`.
        ClientLeft: the client did not send all of it.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def decode_body(body: bytes, coding: bytes | None, *, max_bytes: int) -> bytes:
    """Return a body without its content coding, which may be gzip, identity or absent.

    Raises:
        Refusal: 413, it holds more than `max_bytes`; 415, another coding; 400, no valid gzip.
    """
    if coding is None or coding.lower() == b"identity":
        return body
    if coding.lower() != b"gzip":
        raise Refusal(
            415, "unsupported-coding", "expected gzip or no coding", field="Content-Encoding"
        )
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = reader.decompress(body, max_bytes)
    except zlib.error:
        raise Refusal(400, "bad-body", "the body is no valid gzip") from None
    if reader.unconsumed_tail:
        raise _too_large(max_bytes)
    if not reader.eof:
        raise Refusal(400, "bad-body", "the body is no valid gzip: it ends too early")
    return plain


async def send_answer(send: Send, answer: Answer, method: str = "GET") -> None:
    """Send one complete answer; without its body when the method is HEAD."""
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)}
    )
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(413, "body-too-large", f"a body holds at most {max_bytes} bytes")

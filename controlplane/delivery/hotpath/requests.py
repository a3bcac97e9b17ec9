"""What every address of delivery is asked, and to whom an answer goes that takes time."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from controlplane.delivery.hotpath.problems import Answer, Refusal


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
            shown = name.decode("latin-1").title()
            raise Refusal(400, "repeated-header", f"{shown} appears more than once", field=shown)
        return values[0] if values else None


class Client(Protocol):
    """Who asked, as the server that speaks to it shows it. No method blocks or raises."""

    def finish(self, answer: Answer) -> None:
        """Send the answer to a request that was held."""

    def open_stream(self, answer: Answer) -> None:
        """Send the head of an answer whose body follows piece by piece."""

    def write(self, piece: bytes) -> bool:
        """Send a piece of the body; False when the client does not keep up and was cut off."""

    def close_stream(self) -> None:
        """End the body."""


class Held(Protocol):
    """A request whose answer, or the rest of it, comes later."""

    def cancel(self) -> None:
        """Forget it: the client has left. Harmless to repeat."""


class Adapter(Protocol):
    """Serves publications in another protocol's words, at once and from memory."""

    max_body_bytes: int

    def answer(self, request: Request) -> Answer:
        """Return the answer.

        Raises:
            Refusal: every error answer.
        """


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
        raise body_too_large(max_bytes)
    if not reader.eof:
        raise Refusal(400, "bad-body", "the body is no valid gzip: it ends too early")
    return plain


def body_too_large(max_bytes: int) -> Refusal:
    """The 413 for a body over `max_bytes`."""
    return Refusal(413, "body-too-large", f"a body holds at most {max_bytes} bytes")

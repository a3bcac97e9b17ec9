"""Server-sent events, read from bytes as they come: bounded, and exact to the byte.

After the WHATWG HTML standard, section 9.2.6, except that data stays bytes: a signature covers
the bytes that were sent, not what a decoder makes of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_LINE_BYTES = 8 * 1024 * 1024 + 64  # the largest body a poll may bring, and its field name
MAX_EVENT_BYTES = MAX_LINE_BYTES

_BOM = b"\xef\xbb\xbf"
_LONGEST_RETRY_DIGITS = 9  # eleven days in milliseconds: beyond it somebody is mistaken


class MalformedStream(Exception):
    """The stream is not what it should be: a line or an event without an end."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: `name` is `message` when the stream gave none, `id` the last one it gave."""

    name: str
    data: bytes
    id: str
    signature: str | None = None


class EventParser:
    """Turns chunks, cut anywhere, into events.

    Args:
        max_line_bytes: a longer line is refused, with or without its end.
        max_event_bytes: the most that the data of one event may hold.
    """

    def __init__(
        self, *, max_line_bytes: int = MAX_LINE_BYTES, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        self.retry_ms: int | None = None
        self._max_line_bytes = max_line_bytes
        self._max_event_bytes = max_event_bytes
        self._pending = bytearray()
        self._is_after_cr = False
        self._is_at_start = True
        self._id = ""
        self._name = ""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._signature: str | None = None

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that this chunk completes; read all of them before the next chunk.

        Raises:
            MalformedStream: a line or an event is larger than allowed.
        """
        for line in self._lines(chunk):
            event = self._take(line)
            if event is not None:
                yield event

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        start = 0
        while start < len(chunk):
            if self._is_after_cr:
                self._is_after_cr = False
                if chunk[start] == 0x0A:  # the second half of a CRLF
                    start += 1
                    continue
            end = _line_end(chunk, start)
            if len(self._pending) + (end - start) > self._max_line_bytes:
                raise MalformedStream(f"a line is longer than {self._max_line_bytes} bytes")
            if end == len(chunk):
                self._pending += chunk[start:]
                return
            line = bytes(self._pending) + chunk[start:end]
            self._pending.clear()
            self._is_after_cr = chunk[end] == 0x0D
            start = end + 1
            yield line

    def _take(self, line: bytes) -> Event | None:
        if self._is_at_start:
            self._is_at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        if field:  # a line that begins with a colon is a comment
            self._take_field(field, value.removeprefix(b" "))
        return None

    def _take_field(self, field: bytes, value: bytes) -> None:
        if field == b"data":
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._max_event_bytes:
                raise MalformedStream(f"an event is larger than {self._max_event_bytes} bytes")
            self._data.append(value)
        elif field == b"event":
            self._name = _text(value)
        elif field == b"id" and b"\0" not in value:
            self._id = _text(value)
        elif field == b"signature":
            self._signature = _text(value)
        elif field == b"retry" and value.isdigit() and len(value) <= _LONGEST_RETRY_DIGITS:
            self.retry_ms = int(value)

    def _dispatch(self) -> Event | None:
        event = None
        if self._data:
            data = b"\n".join(self._data)
            event = Event(self._name or "message", data, self._id, self._signature)
        self._forget_event()
        return event

    def _forget_event(self) -> None:
        self._name = ""
        self._data = []
        self._data_bytes = 0
        self._signature = None


def _line_end(chunk: bytes, start: int) -> int:
    """Where the line that begins at `start` ends; the chunk's length when it does not."""
    newline = chunk.find(b"\n", start)
    newline = len(chunk) if newline < 0 else newline
    carriage = chunk.find(b"\r", start, newline)
    return newline if carriage < 0 else carriage


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")

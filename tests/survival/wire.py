"""Just enough of an HTTP/1.1 client to be many instances at once, and to see every byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

CONNECT_WITHIN_S = 1.0


class Broken(Exception):
    """The other side is not there, left, or does not answer in time."""


@dataclass(slots=True)
class Reply:
    """One answer; `body` is empty while it is a stream."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Connection:
    """One connection to a node, used for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> Connection:
        """Connect.

        Raises:
            Broken: nobody listens there, or does not answer within a second.
        """
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                return cls(*await asyncio.open_connection(parts.hostname, parts.port))
        except (OSError, TimeoutError) as error:
            raise Broken(f"connect: {error!r}") from None

    async def ask(
        self, path: str, headers: Mapping[str, str], *, within_s: float, is_stream: bool = False
    ) -> Reply:
        """Send a GET and return its answer; of a stream the head only.

        Raises:
            Broken: no whole answer within `within_s`.
        """
        lines = [f"GET {path} HTTP/1.1", "Host: tidegate"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        try:
            async with asyncio.timeout(within_s):
                self._writer.write("\r\n".join([*lines, "", ""]).encode())
                head = await self._reader.readuntil(b"\r\n\r\n")
                reply = _parse_head(head)
                if not is_stream and reply.status != 304:
                    length = int(reply.headers.get("content-length", "0"))
                    reply.body = await self._reader.readexactly(length)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise Broken(f"answer: {error!r}") from None
        return reply

    async def events(self, reply: Reply, *, silent_s: float) -> AsyncIterator[dict[str, str]]:
        """Yield the fields of each event of a stream; a heartbeat has none.

        Raises:
            Broken: the stream ended, or was silent for longer than `silent_s`.
        """
        is_chunked = reply.headers.get("transfer-encoding") == "chunked"
        pending = b""
        while True:
            try:
                async with asyncio.timeout(silent_s):
                    data = await (self._read_chunk() if is_chunked else self._reader.read(65536))
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                raise Broken(f"stream: {error!r}") from None
            if not data:
                raise Broken("stream: ended")
            *events, pending = (pending + data).split(b"\n\n")
            for event in events:
                yield _parse_event(event)

    def close(self) -> None:
        """Close it without waiting."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.transport.abort()

    async def _read_chunk(self) -> bytes:
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]


def _parse_head(head: bytes) -> Reply:
    first, *rest = head.decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in rest)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Reply(int(first.split()[1]), headers)


def _parse_event(event: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in event.decode().splitlines():
        name, _, value = line.partition(":")
        if name:  # a line that begins with a colon is a comment
            fields[name] = value.removeprefix(" ")
    return fields

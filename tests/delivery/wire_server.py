"""A listening server of the delivery plane, and clients that write bytes of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from controlplane.delivery.hotpath.connections import Limits, Wire
from controlplane.delivery.hotpath.problems import Answer
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.hotpath.wire import WireConnection
from tests.delivery.builders import CHECKOUT_TOKEN, Plane, make_plane

LARGE: dict[str, Any] = {"inbound": {"endpoints": {f"GET /{number}": {} for number in range(200)}}}
AUTH = f"Authorization: Bearer {CHECKOUT_TOKEN}\r\n"
POLL = f"GET /config/v1/prod/checkout HTTP/1.1\r\nHost: x\r\n{AUTH}"
KNOWN = POLL + 'If-None-Match: "7-0-9f3c"\r\n\r\n'


class Echo:
    """An adapter that answers with the body it was sent."""

    max_body_bytes = 1_000

    def answer(self, request: Request) -> Answer:
        if request.path == "/echo/defect":
            raise RuntimeError("a defect")
        length = (b"content-length", str(len(request.body)).encode())
        return Answer(200, (length,), request.body)


class Behind(asyncio.Protocol):
    """What takes over connections that are not for the delivery plane."""

    taken: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.taken.append(data)
        self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")  # type: ignore[attr-defined]


class Served:
    """A listening server and its parts."""

    def __init__(self, plane: Plane, wire: Wire, port: int, taken: list[bytes]) -> None:
        self.plane = plane
        self.wire = wire
        self.port = port
        self.taken = taken

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def tell(self, text: str | bytes) -> bytes:
        """Send bytes on a new connection, close our side's interest, and return all that came."""
        reader, writer = await self.connect()
        writer.write(text.encode() if isinstance(text, str) else text)
        async with asyncio.timeout(5):
            said = await reader.read()
        writer.close()
        return said

    def pass_s(self, seconds: int) -> None:
        """Let this many seconds count for the connections, and sweep them."""
        self.wire.tick += seconds
        self.wire.sweep()


@asynccontextmanager
async def serving(
    *snapshots: Any, limits: Limits | None = None, **options: Any
) -> AsyncIterator[Served]:
    plane = make_plane(*snapshots, adapters=lambda gate, reports: {"/echo/": Echo()}, **options)
    wire = Wire(plane.delivery, limits=limits or Limits(), clock=plane.clock)
    taken: list[bytes] = []

    def behind() -> Behind:
        protocol = Behind()
        protocol.taken = taken
        return protocol

    wire.start(set(), behind)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: WireConnection(wire), "127.0.0.1", 0)
    try:
        yield Served(plane, wire, server.sockets[0].getsockname()[1], taken)
    finally:
        server.close()
        wire.stop()
        for connection in list(wire.all):
            connection.evict()  # type: ignore[attr-defined]
        await server.wait_closed()
        await asyncio.sleep(0)


async def until(is_so: Callable[[], object]) -> None:
    """Let the loop turn until something the other side does has happened."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  (the code under test has no event to wait for)
            await asyncio.sleep(0.001)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        status = int(head[0].split(" ")[1])
        has_body = status != 304 and "content-length" in headers
        body = await reader.readexactly(int(headers["content-length"])) if has_body else b""
    return status, headers, body


def has_arrived(served: Served) -> bool:
    (connection,) = served.wire.all
    parts: Callable[[str], Any] = lambda name: getattr(connection, name)  # noqa: E731
    return bool(parts("_buffer") or parts("_incoming") or parts("_poll"))


async def connect_slowly(port: int) -> socket.socket:
    """Return a connection whose receive buffer is as small as can be."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock

"""A listening server of the delivery plane, and clients that write bytes of their own.

Time passes for its connections only when a test says so, and a server ends with its clients.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from controlplane.delivery.hotpath.connections import Limits, Wire
from controlplane.delivery.hotpath.problems import Answer
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.hotpath.wire import WireConnection
from tests.delivery.builders import CHECKOUT_TOKEN, Plane, make_plane
from tests.waiting import eventually, not_hung

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

    def __init__(self, taken: list[bytes], open_here: set[asyncio.Transport]) -> None:
        self._taken = taken
        self._open_here = open_here

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open_here.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_here.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._taken.append(data)
        self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


class Served:
    """A listening server, its parts, and the connections that a test opened to it."""

    def __init__(self, plane: Plane, wire: Wire, port: int, taken: list[bytes]) -> None:
        self.plane = plane
        self.wire = wire
        self.port = port
        self.taken = taken
        self._writers: list[asyncio.StreamWriter] = []
        self._sockets: list[socket.socket] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        return reader, writer

    async def connect_slowly(self) -> socket.socket:
        """Return a connection whose receive buffer is as small as can be."""
        return await self._connect_socket(2_048)

    async def tell(self, text: str | bytes) -> bytes:
        """Send bytes on a new connection, and return all that came until it ended.

        A server that closes without having read all of them resets the connection: what it had
        said before is returned all the same, which streams would lose.
        """
        sock = await self._connect_socket()
        loop, said = asyncio.get_running_loop(), b""
        async with not_hung():
            with suppress(ConnectionError):
                await loop.sock_sendall(sock, text.encode() if isinstance(text, str) else text)
            with suppress(ConnectionError):
                while piece := await loop.sock_recv(sock, 1 << 16):
                    said += piece
        sock.close()
        return said

    async def close_clients(self) -> None:
        """End every connection that was opened here, whatever has become of it."""
        for sock in self._sockets:
            sock.close()
        for writer in self._writers:
            writer.transport.abort()
        async with not_hung():
            await asyncio.gather(
                *(writer.wait_closed() for writer in self._writers), return_exceptions=True
            )

    async def _connect_socket(self, receive_bytes: int | None = None) -> socket.socket:
        sock = socket.socket()
        self._sockets.append(sock)
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return sock

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
    handed_over: set[asyncio.Transport] = set()
    wire.start(set(), lambda: Behind(taken, handed_over))
    wire.stop()  # its own beats: time passes by `pass_s` only
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: WireConnection(wire), "127.0.0.1", 0)
    served = Served(plane, wire, server.sockets[0].getsockname()[1], taken)
    try:
        yield served
    finally:
        server.close()
        await served.close_clients()
        for connection in list(wire.all):
            connection.evict()  # type: ignore[attr-defined]
        for transport in handed_over:
            transport.abort()
        await server.wait_closed()
        await eventually(lambda: not (wire.all or handed_over), what="the connections to end")


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    async with not_hung():
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

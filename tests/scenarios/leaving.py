"""A node that is told to stop while eighty clients wait at it: what each of them is told."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import httpx

from tests.scenarios.node import Node
from tests.waiting import HUNG_S, eventually, not_hung

EACH = 40  # so many polls, and so many streams
READY = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Left:
    """What became of everybody.

    `last_status` is what a client that stays on its connection was told last, while the node
    answered at all: 503, or 0 when it had left before it was asked.
    """

    polled: list[bytes]
    streamed: list[bytes]
    last_status: int

    @property
    def hints(self) -> list[dict[str, object]]:
        """The last event of each stream."""
        return [json.loads(each.rsplit(b"data: ", 1)[1]) for each in self.streamed]


def leave(node: Node) -> Left:
    """Let clients wait, tell the node to stop, and return what they were told."""
    token = {"Authorization": f"Bearer {node.token}"}
    present = httpx.get(f"{node.url}{node.config_path}", headers=token, timeout=HUNG_S)
    return asyncio.run(_leave(node, present.headers["etag"]))


async def _leave(node: Node, etag: str) -> Left:
    polls = [
        asyncio.ensure_future(_ask(node, If_None_Match=etag, Prefer="wait=60")) for _ in range(EACH)
    ]
    streams = [asyncio.ensure_future(_ask(node, Accept="text/event-stream")) for _ in range(EACH)]
    await eventually(lambda: _held(node) == 2 * EACH, what="the node to hold everybody")
    with _watching(node) as watching:
        node.process.send_signal(signal.SIGTERM)
        # For a moment (uvicorn's next tick) it still says that it is ready.
        seen = 200
        with suppress(ConnectionError):
            while seen == 200:
                watching.sendall(READY)
                said = watching.recv(65536)
                seen = int(said.split(b" ")[1]) if said else 0
    async with not_hung():
        return Left(
            await asyncio.gather(*polls), await asyncio.gather(*streams), 0 if seen == 200 else seen
        )


@contextmanager
def _watching(node: Node) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", node.port), timeout=HUNG_S)) as watching:
        watching.sendall(READY)
        assert watching.recv(65536).startswith(b"HTTP/1.1 200 ")
        yield watching


def _held(node: Node) -> int:
    for line in httpx.get(f"{node.url}/metrics", timeout=HUNG_S).text.splitlines():
        if line.startswith("tidegate_delivery_parked_connections "):
            return int(float(line.split()[1]))
    return 0


async def _ask(node: Node, **headers: str) -> bytes:
    """Send one request and return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    request = [f"GET {node.config_path} HTTP/1.1", "Host: x", f"Authorization: Bearer {node.token}"]
    try:
        writer.write("\r\n".join([*request, *lines, "", ""]).encode())
        return await reader.read()
    finally:
        writer.close()

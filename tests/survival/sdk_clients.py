"""The SDK's own clients behind a load balancer, as a service would run them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.scenarios.connections import Connections
from tidegate import PolicyClient


class Balancer:
    """A TCP load balancer: each connection goes to the next node that takes it."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._nodes = [(urlsplit(url).hostname, urlsplit(url).port) for url in urls]
        self._next = 0
        self._server: asyncio.Server | None = None
        self._connections = Connections(self._serve)
        self.url = ""

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._connections.accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in self._nodes:
            host, port = self._nodes[self._next % len(self._nodes)]
            self._next += 1
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    node = await asyncio.open_connection(host, port)
                await self._pass_on((reader, writer), node)
                return

    async def _pass_on(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        node: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        ways = [
            asyncio.create_task(_copy(client[0], node[1])),
            asyncio.create_task(_copy(node[0], client[1])),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            node[1].transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


class SdkInstance:
    """One real client of the SDK, and every sequence that it had in force."""

    def __init__(self, url: str, service: str, token: str, name: str, state_dir: Path) -> None:
        self.service = service
        self.name = name
        self.sequences: list[int] = []
        self.client = PolicyClient(
            url, "prod", service, token,
            instance_id=name, state_dir=state_dir, wait_s=5.0,
        )  # fmt: skip

    async def run(self) -> None:
        """Follow until cancelled."""
        await self.client.start()
        try:
            while True:
                held = self.client.sequence
                if held is not None and (not self.sequences or self.sequences[-1] != held):
                    self.sequences.append(held)
                await asyncio.sleep(0.02)
        finally:
            await self.client.stop()

    @property
    def sequence(self) -> int:
        """What it has in force; 0 while on safe defaults."""
        return self.client.sequence or 0


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

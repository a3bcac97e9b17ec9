"""A delivery plane with its adapters behind its own HTTP server, for clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from controlplane.delivery.build import ADAPTERS
from controlplane.delivery.hotpath.app import ConfigApp
from controlplane.delivery.hotpath.connections import Limits, Wire
from controlplane.delivery.hotpath.plane import DeliveryPlane
from controlplane.delivery.hotpath.wire import WireConnection
from tests.delivery.adapters import World
from tests.waiting import HUNG_S

Result = TypeVar("Result")
# Its connections keep real time, which ends none of them.
NO_LIMIT_S = 10**9
PATIENT = Limits(head_s=NO_LIMIT_S, body_s=NO_LIMIT_S, idle_s=NO_LIMIT_S, unsent_s=NO_LIMIT_S)


class Served:
    """A server in a thread of its own: where it is, and how to reach into its event loop."""

    def __init__(self, world: World) -> None:
        adapters = {prefix: make(world.gate, world.reports) for prefix, make in ADAPTERS.items()}
        config = ConfigApp(world.gate, world.reports)
        self._plane = DeliveryPlane(config, adapters=adapters, addresses={})
        self._clock = world.clock
        self.is_up = threading.Event()
        self.url = ""

    def run(self) -> None:
        """Serve until told to stop."""
        asyncio.run(self._serve())

    def stop(self) -> None:
        """Tell the server to stop."""
        self._loop.call_soon_threadsafe(self._is_over.set)

    def do(self, act: Callable[[], Result]) -> Result:
        """Run `act` on the thread that answers requests, and return what it returned."""

        async def acted() -> Result:
            return act()

        return asyncio.run_coroutine_threadsafe(acted(), self._loop).result(HUNG_S)

    async def _serve(self) -> None:
        self._loop, self._is_over = asyncio.get_running_loop(), asyncio.Event()
        wire = Wire(self._plane, limits=PATIENT, clock=self._clock)
        wire.start(set(), asyncio.Protocol)
        server = await self._loop.create_server(lambda: WireConnection(wire), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.is_up.set()
        await self._is_over.wait()
        server.close()
        wire.stop()
        for connection in list(wire.all):
            connection.evict()  # type: ignore[attr-defined]
        await server.wait_closed()


@contextmanager
def serving(world: World) -> Iterator[Served]:
    """Serve a world over HTTP until the block ends."""
    served = Served(world)
    thread = threading.Thread(target=served.run)
    thread.start()
    try:
        assert served.is_up.wait(HUNG_S), "the server did not start"
        yield served
    finally:
        if served.is_up.is_set():
            served.stop()
        thread.join(HUNG_S)
    assert not thread.is_alive(), "the server did not stop"

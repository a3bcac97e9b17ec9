"""A delivery plane behind a real HTTP server on a free port of this machine."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import uvicorn

from controlplane.delivery.build import ADAPTERS
from controlplane.delivery.hotpath.app import ConfigApp
from controlplane.delivery.hotpath.asgi import AsgiPlane
from controlplane.delivery.hotpath.plane import DeliveryPlane
from tests.delivery.adapters import World

Result = TypeVar("Result")
STARTED_WITHIN_S = 20.0


class Served(uvicorn.Server):
    """A server in a thread of its own: where it is, and how to reach into its event loop."""

    def __init__(self, world: World) -> None:
        config = ConfigApp(world.gate, world.reports)
        adapters = {prefix: make(world.gate, world.reports) for prefix, make in ADAPTERS.items()}
        app = AsgiPlane(DeliveryPlane(config, adapters=adapters, addresses={}))
        super().__init__(uvicorn.Config(app, lifespan="off", log_config=None, ws="none"))
        self.is_up = threading.Event()
        self.url = ""
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.is_up.set()

    def do(self, act: Callable[[], Result]) -> Result:
        """Run `act` on the thread that answers requests, and return what it returned."""

        async def acted() -> Result:
            return act()

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(acted(), self._loop).result(STARTED_WITHIN_S)


@contextmanager
def serving(world: World) -> Iterator[Served]:
    """Serve a world over HTTP until the block ends."""
    served = Served(world)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=served.run, args=([listening],))
        thread.start()
        try:
            assert served.is_up.wait(STARTED_WITHIN_S), "the server did not start"
            yield served
        finally:
            served.should_exit = True
            thread.join(STARTED_WITHIN_S)
    assert not thread.is_alive(), "the server did not stop"

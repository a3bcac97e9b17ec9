"""One instance of one service: a uvicorn server whose application is protected by the SDK."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from pathlib import Path

import uvicorn

import tidegate
from demo.addresses import RoundRobinTransport
from demo.faults import FaultWatch, fault_of
from demo.fleet import ENVIRONMENT, FLEET, HOST, PlacedInstance, read_addresses
from demo.services import ROUTES
from demo.web import Application, AsgiApp, Receive, Scope, Send
from demo.work import Work

LOOK_EVERY_S = 0.5
log = logging.getLogger("demo.instance")


def serve(placed: PlacedInstance, state_dir: Path, control_plane_url: str) -> None:
    """Serve one instance until this process is told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    instance = Instance(placed, state_dir, control_plane_url)
    config = uvicorn.Config(
        instance.application,
        host=HOST,
        port=placed.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        interface="asgi3",
        proxy_headers=False,
        lifespan="on",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
    )
    DrainingServer(config, instance.middleware).run()


class DrainingServer(uvicorn.Server):
    """A server that leaves as its policy says: not ready, then refusing, then gone."""

    def __init__(self, config: uvicorn.Config, middleware: tidegate.TidegateMiddleware) -> None:
        super().__init__(config)
        self._middleware = middleware

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while still listening, then stop as uvicorn does."""
        await self._middleware.drain()
        await super().shutdown(sockets)


class Instance:
    """The application of one instance, with its policy client and its view of the incidents."""

    def __init__(self, placed: PlacedInstance, state_dir: Path, control_plane_url: str) -> None:
        self._name = placed.name
        self._service = placed.service
        self._watch = FaultWatch(state_dir)
        self._client = tidegate.PolicyClient(
            control_plane_url,
            ENVIRONMENT,
            placed.service,
            (state_dir / "tokens" / placed.service).read_text().strip(),
            instance_id=placed.name,
            state_dir=state_dir / "sdk" / placed.name,
        )
        self._work = self._make_work(read_addresses(state_dir))
        routes = ROUTES[placed.service](self._work)
        self.middleware = tidegate.TidegateMiddleware(
            Application(routes),
            self._client,
            metrics=self._client.metrics,
            routes=[route.key for route in routes],
            serve_health=True,
        )
        self.application: AsgiApp = self._with_lifespan

    def _make_work(self, addresses: dict[str, tuple[str, ...]]) -> Work:
        shape = next(service for service in FLEET if service.name == self._service)
        clients = {
            name: tidegate.http_client(
                self._client,
                name,
                f"http://{name}",
                wrapped=RoundRobinTransport(addresses[name]),
            )
            for name in shape.calls
        }
        return Work(
            clients,
            fault=lambda: fault_of(self._service, self._watch.active),
            feature_is_on=lambda feature: self._client.policy.inbound.feature_is_on(feature),
            chance=random.Random(),
        )

    async def _with_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.middleware(scope, receive, send)
            return
        await receive()
        await self._client.start()
        looker = asyncio.create_task(self._look_for_incidents())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        looker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looker
        await self._client.stop()
        await self._work.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _look_for_incidents(self) -> None:
        while True:
            if self._watch.look():
                log.info("%s: incidents now: %s", self._name, sorted(self._watch.active))
            await asyncio.sleep(LOOK_EVERY_S)

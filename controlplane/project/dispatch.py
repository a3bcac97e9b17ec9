"""One process, two planes: sends each request to the config hot path, health, or Django.

The delivery plane stands in front: a poll never enters Django, its middleware or its threads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import structlog

from controlplane.project import health

FEED_AGAIN_S = 1.0

logger = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class ConfigPlane(Protocol):
    """What this module needs of the config hot path."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request under `/config/`."""

    def drain(self) -> None:
        """Answer every parked poll now, and report not ready from now on."""

    @property
    def ready(self) -> bool:
        """True once snapshots are loaded and until draining begins."""


class SnapshotFeed(Protocol):
    """What this module needs of the feed that keeps snapshots current."""

    async def run(self) -> None:
        """Load, then follow publications until stopped."""

    async def stop(self) -> None:
        """Write what is still buffered, then return."""


class WebProcess:
    """ASGI 3 application of the web process.

    Lifespan startup begins following publications and returns at once, so the process is alive
    before it is ready; shutdown answers parked polls and flushes reports. A feed that fails is
    started again after `feed_again_s`, or the process would serve old policies for ever.
    """

    def __init__(
        self,
        *,
        config_app: ConfigPlane,
        feed: SnapshotFeed,
        operator_app: AsgiApp,
        feed_again_s: float = FEED_AGAIN_S,
    ) -> None:
        self.config_app = config_app
        self._feed = feed
        self._operator_app = operator_app
        self._feed_again_s = feed_again_s
        self._feed_task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Dispatch by path; an exact prefix test keeps the hot path at one comparison."""
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.startswith("/config/"):
                await self.config_app(scope, receive, send)
            elif path in health.PATHS:
                await health.answer(path, ready=self.config_app.ready, send=send)
            else:
                await self._operator_app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._feed_task = asyncio.create_task(self._follow(), name="snapshot feed")
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._shut_down()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _follow(self) -> None:
        while True:
            try:
                await self._feed.run()
            except Exception:
                logger.exception("feed.failed", again_in_s=self._feed_again_s)
            await asyncio.sleep(self._feed_again_s)

    async def _shut_down(self) -> None:
        self.config_app.drain()
        if self._feed_task is not None:
            self._feed_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._feed_task
        await self._feed.stop()

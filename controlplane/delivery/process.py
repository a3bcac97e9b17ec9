"""One process of the delivery plane: its life, and which requests are whose.

The web process is the same with Django behind it: the delivery plane stands in front, so a poll
never enters Django, its middleware or its threads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from controlplane.delivery.hotpath.asgi import AsgiPlane
from controlplane.delivery.hotpath.plane import DeliveryPlane
from controlplane.delivery.hotpath.problems import Answer, Refusal, problem_answer
from controlplane.kernel.instruments import REGISTRY

FEED_AGAIN_S = 1.0
METRICS_KEPT_S = 0.5

logger = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class SnapshotFeed(Protocol):
    """What this module needs of the feed that keeps snapshots current."""

    async def run(self) -> None:
        """Load, then follow publications until stopped."""

    async def stop(self) -> None:
        """Write what is still buffered, then return."""


class DeliveryProcess:
    """ASGI 3 application of a process with a delivery plane, and of what stands behind it.

    Lifespan startup begins following publications and returns at once, so the process is alive
    before it is ready; shutdown answers held polls and flushes reports. A feed that fails is
    started again after `feed_again_s`, or the process would serve old policies for ever.
    """

    stop_within_s = 5.0
    """For how long shutdown waits for reports to be written."""

    def __init__(
        self,
        *,
        plane: DeliveryPlane,
        feed: SnapshotFeed,
        behind: AsgiApp,
        feed_again_s: float = FEED_AGAIN_S,
    ) -> None:
        self.plane = plane
        self._metrics = _Metrics()
        self._answer_plane = AsgiPlane(plane)
        self._feed = feed
        self._behind = behind
        self._feed_again_s = feed_again_s
        self._feed_task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Dispatch by path."""
        if scope["type"] == "http":
            path: str = scope["path"]
            if self.plane.owns(path):
                await self._answer_plane(scope, receive, send)
            elif path == "/metrics":
                await self._metrics.send(send)
            else:
                await self._behind(scope, receive, send)
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
        self.plane.drain()
        if self._feed_task is not None:
            self._feed_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._feed_task
        try:
            async with asyncio.timeout(self.stop_within_s):
                await self._feed.stop()
        except TimeoutError:
            logger.warning("feed.left", after_s=self.stop_within_s, lost="the last reports")


class _Metrics:
    """The metrics, rendered once for all who ask within METRICS_KEPT_S."""

    def __init__(self) -> None:
        self._rendering: asyncio.Task[bytes] | None = None
        self._begun_at_s = 0.0

    async def send(self, send: Send) -> None:
        """Answer one scrape."""
        now_s = asyncio.get_running_loop().time()
        if self._rendering is None or now_s - self._begun_at_s > METRICS_KEPT_S:
            self._begun_at_s = now_s
            # Rendering takes milliseconds: off the loop, so that no poll waits for a scrape.
            rendering = asyncio.to_thread(generate_latest, REGISTRY)
            self._rendering = asyncio.create_task(rendering, name="metrics")
        body = await asyncio.shield(self._rendering)  # one who leaves takes it from nobody
        headers = (
            (b"content-type", CONTENT_TYPE_LATEST.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        )
        await _send(send, Answer(200, headers, body))


async def nothing_behind(scope: Any, receive: Any, send: Any) -> None:
    """Answer what is not for the delivery plane where there is no other: 404."""
    answer = problem_answer(
        Refusal(404, "not-found", "this node delivers policies only; pages and API are elsewhere")
    )
    await _send(send, answer)


async def _send(send: Send, answer: Answer) -> None:
    headers = list(answer.headers)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})

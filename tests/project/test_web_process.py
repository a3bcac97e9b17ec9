from __future__ import annotations

import asyncio
from typing import Any

from controlplane.project.dispatch import WebProcess


class Plane:
    """A config API that only notes that it drains."""

    ready = True

    def __init__(self) -> None:
        self.is_drained = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    def drain(self) -> None:
        self.is_drained = True


class FailingOnce:
    """A feed with a defect that shows in its first run."""

    def __init__(self) -> None:
        self.runs = 0
        self.follows = asyncio.Event()
        self.is_stopped = False

    async def run(self) -> None:
        self.runs += 1
        if self.runs == 1:
            raise RuntimeError("a defect")
        self.follows.set()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.is_stopped = True


async def pages(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def test_a_feed_that_fails_is_started_again_until_the_process_stops() -> None:
    plane, feed = Plane(), FailingOnce()
    process = WebProcess(config_app=plane, feed=feed, operator_app=pages, feed_again_s=0.0)
    told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    answered: asyncio.Queue[Any] = asyncio.Queue()
    life = asyncio.create_task(process({"type": "lifespan"}, told.get, answered.put))

    await told.put({"type": "lifespan.startup"})
    assert await answered.get() == {"type": "lifespan.startup.complete"}
    await asyncio.wait_for(feed.follows.wait(), 5)
    await told.put({"type": "lifespan.shutdown"})
    assert await answered.get() == {"type": "lifespan.shutdown.complete"}
    await life

    assert feed.runs == 2
    assert plane.is_drained
    assert feed.is_stopped


async def test_polls_and_health_never_reach_the_pages() -> None:
    process = WebProcess(config_app=Plane(), feed=FailingOnce(), operator_app=pages)
    statuses = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    for path in ("/config/v1/prod/checkout", "/livez", "/services/checkout/"):
        await process({"type": "http", "path": path}, None, send)

    assert statuses == [204, 200, 200]

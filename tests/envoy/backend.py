"""What stands behind Envoy, and the requests that go there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn

from tests.waiting import HUNG_S, eventually, wait_until


class Server:
    """An ASGI application in a thread of its own."""

    def __init__(self, application: Any, port: int) -> None:
        self.port = port
        config = uvicorn.Config(
            application, host="127.0.0.1", port=port, log_level="error", lifespan="off",
            loop="asyncio", ws="none", timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self._server.started, what="a server to start")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(HUNG_S)
        assert not self._thread.is_alive()


def never() -> bool:
    return False


@dataclass(slots=True)
class Backend:
    """What stands behind Envoy. The first four are how it answers from now on.

    While `holds` answers that it should, it answers nobody.
    """

    status: int = 200
    takes_s: float = 0.0
    keeps_alive: bool = True
    holds: Callable[[], bool] = never
    seen: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(f"{scope['method']} {scope['path']}")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.takes_s)
            await eventually(lambda: not self.holds(), what="the backend to be let go")
        finally:
            self.at_once -= 1
        headers = [(b"content-length", b"0")]
        if not self.keeps_alive:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def reset(self) -> None:
        self.status, self.takes_s, self.keeps_alive, self.holds = 200, 0.0, True, never
        self.most_at_once = 0
        self.seen.clear()


def burst(
    url: str,
    count: int,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    answered: Callable[[int], None] = lambda count: None,
) -> list[int]:
    """Send so many requests at once and return the statuses of their answers, in order.

    `answered` is told after each answer how many there are.
    """
    done = 0

    async def send_all() -> list[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=HUNG_S) as client:

            async def send() -> int:
                nonlocal done
                answer = await client.request(method, url, headers=headers)
                done += 1
                answered(done)
                return answer.status_code

            return list(await asyncio.gather(*(send() for _ in range(count))))

    return asyncio.run(send_all())


def held_burst(backend: Backend, url: str, count: int, *, queued: int) -> list[int]:
    """As `burst`, with the backend busy until every request is refused, there, or queued.

    So that it is sure, however slow the machine is, that all were under way at once.
    """
    done, is_over = 0, False
    backend.most_at_once = 0

    def note(answered: int) -> None:
        nonlocal done
        done = answered

    def holds() -> bool:
        nonlocal is_over
        is_over = is_over or done + backend.at_once >= count - queued
        return not is_over

    backend.holds = holds
    try:
        return burst(url, count, answered=note)
    finally:
        backend.holds = never

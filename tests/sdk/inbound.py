"""Builders for tests of the inbound half: a policy, a guarded app, a clock moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tests.waiting import HUNG_S, not_hung
from tidegate.asgi import AsgiApp, Receive, Scope, Send, answer
from tidegate.guard import Guard
from tidegate.metrics import Metrics
from tidegate.middleware import TidegateMiddleware
from tidegate.policy import Policy, parse_policy

OUTBOUND: Mapping[str, Any] = {
    "defaults": {
        "timeouts": {"connect_ms": 250, "attempt_ms": 1000},
        "retry": {
            "max_attempts": 3,
            "on": ["connect_error", "timeout", "503"],
            "methods": "idempotent",
            "backoff": {"base_ms": 50, "multiplier": 2.0, "max_ms": 2000, "jitter": "full"},
            "budget": {"ratio": 0.1, "min_per_s": 1, "window_s": 10},
        },
        "breaker": {
            "mode": "auto",
            "window": {"kind": "time", "size": 30},
            "min_calls": 20,
            "failure_rate": 0.5,
            "slow_call_ms": 1000,
            "slow_call_rate": 0.8,
            "open_s": 15,
            "half_open_calls": 5,
        },
    },
    "dependencies": {},
}


class FakeClock:
    """Monotonic seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


def document(**inbound: object) -> dict[str, Any]:
    """A complete delivered policy in which nothing limits, except what the test says."""
    return {
        "inbound": {
            "deadline_ms": 60_000,
            "concurrency": concurrency(1000),
            "rate": {"per_s": 1_000_000, "burst": 1_000_000},
            "tenants": {"default": None, "named": {}},
            "shedding": {"level": 0, "default_criticality": "critical"},
            "endpoints": {},
            "features": {},
            **inbound,
        },
        "outbound": OUTBOUND,
        "lifecycle": {"drain": {"not_ready_s": 5, "timeout_s": HUNG_S}},
    }


def policy(**inbound: object) -> Policy:
    return parse_policy(document(**inbound))


def concurrency(most: int, *, queue: int = 0, timeout_ms: float = 60_000) -> dict[str, Any]:
    return {"max": most, "queue": {"max": queue, "timeout_ms": timeout_ms}}


def endpoint(**own: object) -> dict[str, Any]:
    return {"deadline_ms": 60_000, "criticality": "critical", **own}


async def plain_app(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, 200, [(b"content-type", b"text/plain")], b"served")


async def until(happened: Callable[[], bool]) -> None:
    """Let the other tasks run until something happened."""
    async with not_hung():
        while not happened():  # noqa: ASYNC110  (it is no event: it is looked at each turn)
            await asyncio.sleep(0)


class HeldApp:
    """A handler that keeps every request until it is released."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.started = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started += 1
        await self.release.wait()
        await plain_app(scope, receive, send)

    async def until_started(self, count: int) -> None:
        await until(lambda: self.started >= count)


class Service:
    """A guarded app, a client of it, and what it counted."""

    def __init__(self, inbound: Policy, app: AsgiApp = plain_app, **options: Any) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        routes = options.pop("routes", ())
        self.guard = Guard(
            inbound, metrics=self.metrics, clock=self.clock, routes=routes, top_tenants=2
        )
        self.app = TidegateMiddleware(app, self.guard, **options)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app),
            base_url="http://service",
        )

    async def get(self, path: str = "/", **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.get(path, headers=names)

    async def statuses(self, count: int, path: str = "/", **headers: str) -> list[int]:
        return [(await self.get(path, **headers)).status_code for _ in range(count)]

    def rejected(self, reason: str, route: str = "other", criticality: str = "critical") -> float:
        return self.metrics.rejected.child(reason, route, criticality).value

    def waiting(self) -> float:
        return next(iter(self.metrics.queue_depth.samples()))[2]

    def would_reject(self, reason: str, route: str = "other") -> float:
        return self.metrics.would_reject.child(reason, route, "critical").value

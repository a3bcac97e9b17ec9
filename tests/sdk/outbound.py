"""Builders for the tests of the outbound half: policies, and a dependency played by a script."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.sdk.inbound import FakeClock
from tidegate import SAFE_DEFAULTS, FixedPolicy, Policy, RequestContext, TidegateTransport
from tidegate.context import enter_request, leave_request
from tidegate.outbound_policy import (
    BreakerMode,
    BreakerPolicy,
    BudgetPolicy,
    DependencyPolicy,
    OutboundPolicy,
    WindowKind,
    WindowPolicy,
)

DEFAULTS = SAFE_DEFAULTS.outbound.defaults
ENDLESS_BUDGET = BudgetPolicy(ratio=100, min_per_s=1000, window_s=10)


def breaker_policy(
    *, kind: WindowKind = WindowKind.COUNT, size: int = 10, **changed: Any
) -> BreakerPolicy:
    """A breaker that opens when half of at least four calls failed."""
    usual: dict[str, Any] = {
        "mode": BreakerMode.AUTO,
        "min_calls": 4,
        "failure_rate": 0.5,
        "slow_call_ms": 1000.0,
        "slow_call_rate": 0.8,
        "open_s": 15.0,
        "half_open_calls": 2,
    }
    return BreakerPolicy(window=WindowPolicy(kind, size), **(usual | changed))


def dependency_policy(
    *, breaker: BreakerPolicy | None = None, budget: BudgetPolicy = ENDLESS_BUDGET, **retry: Any
) -> DependencyPolicy:
    """The defaults with a budget and a breaker that are not in the way."""
    return DependencyPolicy(
        timeouts=DEFAULTS.timeouts,
        retry=dataclasses.replace(DEFAULTS.retry, budget=budget, **retry),
        breaker=breaker or breaker_policy(mode=BreakerMode.DISABLED),
    )


def policy_of(dependency: DependencyPolicy) -> Policy:
    return dataclasses.replace(
        SAFE_DEFAULTS, outbound=OutboundPolicy(defaults=dependency, dependencies={})
    )


Played = int | Exception | httpx.Response | Callable[[httpx.Request], httpx.Response]


class Script(httpx.AsyncBaseTransport):
    """A dependency that answers each attempt with the next of `answers`, the last for ever."""

    def __init__(self, answers: Iterable[Played]) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.headers: list[httpx.Headers] = []
        self.timeouts: list[dict[str, float]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.headers.append(request.headers.copy())
        self.timeouts.append(dict(request.extensions["timeout"]))
        played = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(played, Exception):
            raise played
        if isinstance(played, httpx.Response):
            return played
        return httpx.Response(played) if isinstance(played, int) else played(request)


@contextmanager
def request_with(clock: Callable[[], float], remaining_s: float) -> Iterator[None]:
    """Be at work on a request whose deadline is `remaining_s` from now."""
    token = enter_request(RequestContext("req-1", clock() + remaining_s, tenant="acme"))
    try:
        yield
    finally:
        leave_request(token)


class Caller:
    """A client of the dependency `payments`, with time and waiting in the test's hands."""

    def __init__(self, *answers: Played, policy: DependencyPolicy | None = None) -> None:
        self.clock = FakeClock()
        self.waits_s: list[float] = []
        self.source = FixedPolicy(policy_of(policy or dependency_policy()))
        self.script = Script(answers)
        self.transport = TidegateTransport(
            self.source, "payments", self.script, clock=self.clock, sleep=self._sleep
        )
        self.http = httpx.AsyncClient(
            transport=self.transport, base_url="http://payments", timeout=None
        )

    async def _sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)
        self.clock.advance(seconds)

    async def get(self, path: str = "/", **options: Any) -> httpx.Response:
        return await self.http.get(path, **options)

    async def get_within(self, remaining_s: float, **options: Any) -> httpx.Response:
        """Get as part of a request whose deadline is `remaining_s` from now."""
        with request_with(self.clock, remaining_s):
            return await self.get(**options)

    @property
    def sent(self) -> int:
        return len(self.script.requests)

    def requests_counted(self, outcome: str) -> float:
        return self.source.metrics.client_requests.child("payments", outcome).value

    def attempts_counted(self, outcome: str) -> float:
        return self.source.metrics.client_attempts.child("payments", outcome).value

    def breaker_calls_counted(self, outcome: str) -> float:
        return self.source.metrics.breaker_calls.child("payments", outcome).value

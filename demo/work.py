"""What handlers do: wait as real work would, and call other services through the SDK."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping

import httpx

from demo.faults import Fault, sample_ms
from demo.web import Answer, CallFailed
from tidegate.errors import BreakerOpen, DeadlineExceeded


class Work:
    """The hands of one instance: simulated effort, and clients of its dependencies."""

    def __init__(
        self,
        clients: Mapping[str, httpx.AsyncClient],
        fault: Callable[[], Fault],
        feature_is_on: Callable[[str], bool],
        chance: random.Random,
    ) -> None:
        self._clients = clients
        self._fault = fault
        self.feature_is_on = feature_is_on
        self._chance = chance

    async def effort(self, median_ms: float, sigma: float = 0.35) -> None:
        """Take as long as real work would, plus what is wrong with this service now.

        Raises:
            CallFailed: this service is in an error burst, and it hit this request.
        """
        fault = self._fault()
        took_ms = sample_ms(median_ms, sigma, self._chance) + sample_ms(
            fault.extra_median_ms, fault.extra_sigma, self._chance
        )
        await asyncio.sleep(took_ms / 1000)
        if self._chance.random() < fault.error_ratio:
            raise CallFailed(Answer(500, {"error": "something broke here"}))

    async def call(
        self, dependency: str, method: str, path: str, *, idempotency_key: str = ""
    ) -> Mapping[str, object]:
        """Return what a dependency answers to one request, under this service's policy.

        Raises:
            CallFailed: it refused, failed or took too long.
        """
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        try:
            answer = await self._clients[dependency].request(method, path, headers=headers)
        except httpx.HTTPError as problem:
            raise CallFailed(
                answer_to_failure(dependency, problem),
                was_sent=not isinstance(problem, BreakerOpen),
            ) from problem
        if answer.status_code >= 400:
            raise CallFailed(answer_to_status(dependency, answer))
        found: Mapping[str, object] = answer.json()
        return found

    async def aclose(self) -> None:
        """Close every client."""
        for client in self._clients.values():
            await client.aclose()


def answer_to_failure(dependency: str, problem: httpx.HTTPError) -> Answer:
    """Return what to tell our caller when a dependency gave no answer."""
    if isinstance(problem, BreakerOpen):
        wait_s = max(1, math.ceil(problem.retry_after_s))
        return Answer(503, {"error": f"{dependency} is resting"}, {"Retry-After": str(wait_s)})
    if isinstance(problem, DeadlineExceeded | httpx.TimeoutException):
        return Answer(504, {"error": f"{dependency} took too long"})
    return Answer(502, {"error": f"{dependency} can't be reached"})


def answer_to_status(dependency: str, answer: httpx.Response) -> Answer:
    """Return what to tell our caller when a dependency answered with an error.

    Refusals (429 and 503) pass on with their Retry-After: the caller is to wait, whoever is full.
    """
    if answer.status_code in (429, 503):
        headers = {"Retry-After": answer.headers.get("Retry-After", "1")}
        return Answer(answer.status_code, {"error": f"{dependency} is full"}, headers)
    if answer.status_code == 504:
        return Answer(504, {"error": f"{dependency} took too long"})
    if answer.status_code >= 500:
        return Answer(502, {"error": f"{dependency} failed"})
    return Answer(answer.status_code, {"error": f"{dependency} refused"})

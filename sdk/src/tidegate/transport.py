"""Outbound HTTP under a policy: timeouts within the deadline, safe retries, budget, breaker.

Limits are per instance: each process has its own breakers and budgets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from tidegate.attempt import Attempt, send_once
from tidegate.calls import CallReport, CallRules
from tidegate.clock import Clock, monotonic_s
from tidegate.dependency import PolicySource, dependency_of
from tidegate.outgoing import DeadlineStream


class TidegateTransport(httpx.AsyncBaseTransport):
    """Wraps another transport and protects the calls to one dependency.

    Args:
        source: where the policy comes from; each new one is obeyed at once, windows kept.
        dependency: its name in the policy and in the metrics.
        wrapped: what sends; closed with this one. Leave its own retries off.
        clock: monotonic seconds.
        sleep: waits out a backoff.
    """

    def __init__(
        self,
        source: PolicySource,
        dependency: str,
        wrapped: httpx.AsyncBaseTransport | None = None,
        *,
        clock: Clock = monotonic_s,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._rules = CallRules(dependency_of(source, dependency, clock), clock)
        self._wrapped = httpx.AsyncHTTPTransport() if wrapped is None else wrapped
        self._clock = clock
        self._sleep = sleep

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request, and again if policy, deadline, breaker and budget all allow it.

        Raises:
            BreakerOpen: refused without being sent.
            DeadlineExceeded: the current request's deadline left no time for an answer.
            httpx.TransportError: the last attempt failed; a note says why it was the last.
        """
        rules = self._rules
        deadline_at_s = rules.deadline_at_s()
        sent = 0
        try:
            while True:
                attempt = await self._attempt(request, deadline_at_s, is_first=sent == 0)
                sent += attempt.is_sent
                try:
                    wait_s, stopped_by = rules.plan(request, attempt, sent, deadline_at_s)
                    if wait_s is None:
                        response = rules.finish(attempt, CallReport(sent, stopped_by))
                        return self._bounded(response, deadline_at_s)
                except BaseException:
                    await attempt.close()  # nobody else has the response, to give it back
                    raise
                await attempt.discard()
                await self._sleep(wait_s)
        except asyncio.CancelledError:
            rules.leave(deadline_at_s)
            raise

    async def aclose(self) -> None:
        """Close what this transport wraps."""
        await self._wrapped.aclose()

    async def _attempt(
        self, request: httpx.Request, deadline_at_s: float | None, *, is_first: bool
    ) -> Attempt:
        rules = self._rules
        admission = rules.admit(request, deadline_at_s, is_first=is_first)
        if isinstance(admission, Attempt):
            return admission
        outcome = "mistake"
        try:
            attempt = await send_once(
                self._wrapped,
                request,
                rules.name,
                admission.limit_s,
                is_clipped=admission.is_clipped,
            )
            outcome = attempt.outcome
        except asyncio.CancelledError:
            outcome = rules.outcome_of_leaving(deadline_at_s)
            raise
        finally:
            rules.settle(admission, outcome)
        return attempt

    def _bounded(self, response: httpx.Response, deadline_at_s: float | None) -> httpx.Response:
        """The response, whose body must end before the deadline unless it is here already."""
        body = response.stream
        if deadline_at_s is None or not isinstance(body, httpx.AsyncByteStream):
            return response
        if not isinstance(body, httpx.ByteStream):
            response.stream = DeadlineStream(body, deadline_at_s, self._clock, self._rules.name)
        return response


def http_client(
    source: PolicySource,
    dependency: str,
    base_url: str = "",
    *,
    wrapped: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """An httpx client for one dependency under the policy of `source`.

    Its timeouts are the policy's: httpx's default of 5 s is off. Close it like any other.
    """
    transport = TidegateTransport(source, dependency, wrapped)
    return httpx.AsyncClient(base_url=base_url, transport=transport, timeout=None)  # noqa: S113

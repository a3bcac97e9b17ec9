"""Outbound HTTP under a policy: timeouts within the deadline, safe retries, budget, breaker.

Limits are per instance: each process has its own breakers and budgets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from tidegate.attempt import Attempt, refused, send_once, too_late
from tidegate.breaker import Breaker, BreakerState, Permit
from tidegate.clock import Clock, monotonic_s, wall_s
from tidegate.context import current_request
from tidegate.dependency import PolicySource, dependency_of
from tidegate.outbound_policy import BreakerMode
from tidegate.outgoing import (
    DeadlineStream,
    add_context_headers,
    is_replayable,
    limit_timeouts,
)
from tidegate.retry import delay_s, is_retryable_request, retry_after_s

# Less than this left after the wait is not worth another attempt.
MIN_ATTEMPT_S = 0.01

LONGEST_WAIT_S = 60.0  # as long as any backoff; a Retry-After beyond it ends the call
_HEALTHY = ("success", "limited")
_NEUTRAL = ("no_connection", "cancelled", "mistake")


@dataclass(frozen=True, slots=True)
class CallReport:
    """What a call took, in `response.extensions["tidegate"]`.

    `stopped_by` says why a failure was not tried again: `attempts`, `cause`, `method`, `body`,
    `deadline`, `wait` (it asked for over a minute), `breaker` or `budget`; None after a success.
    """

    attempts: int
    stopped_by: str | None


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
        self._dependency = dependency_of(source, dependency, clock)
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
        context = current_request()
        deadline_at_s = None if context is None else context.deadline_at_s
        sent = 0
        try:
            while True:
                attempt = await self._attempt(request, deadline_at_s, is_first=sent == 0)
                sent += attempt.is_sent
                if not attempt.cause:
                    return self._finish(attempt, CallReport(sent, None), deadline_at_s)
                wait_s, stopped_by = self._plan(request, attempt, sent, deadline_at_s)
                if wait_s is None:
                    return self._finish(attempt, CallReport(sent, stopped_by), deadline_at_s)
                await attempt.discard()
                await self._sleep(wait_s)
        except asyncio.CancelledError:
            self._dependency.count_request(self._outcome_of_cancelling(deadline_at_s))
            raise

    async def aclose(self) -> None:
        """Close what this transport wraps."""
        await self._wrapped.aclose()

    async def _attempt(
        self, request: httpx.Request, deadline_at_s: float | None, *, is_first: bool
    ) -> Attempt:
        dependency = self._dependency
        timeouts = dependency.policy.timeouts
        started_s = self._clock()
        full_s = timeouts.attempt_ms / 1000.0
        limit_s = full_s if deadline_at_s is None else min(full_s, deadline_at_s - started_s)
        if limit_s <= 0.0:
            return too_late(request, dependency.name)
        permit = dependency.breaker.allow()
        if permit is None:
            dependency.count_breaker_call("rejected")
            return refused(request, dependency.name, dependency.breaker.retry_after_s)
        if is_first:
            dependency.budget.record_request()
        add_context_headers(request, started_s)
        limit_timeouts(request, timeouts.connect_ms / 1000.0, limit_s)
        is_clipped = limit_s < full_s
        attempt = Attempt("", "mistake")
        try:
            attempt = await send_once(
                self._wrapped, request, dependency.name, limit_s, is_clipped=is_clipped
            )
        except asyncio.CancelledError:
            attempt.outcome = self._outcome_of_cancelling(deadline_at_s)
            raise
        finally:
            took_s = self._clock() - started_s
            dependency.attempt_duration.observe(took_s)
            dependency.count_attempt(attempt.outcome)
            self._judge(attempt.outcome, took_s, permit, is_fair=limit_s * 2.0 >= full_s)
        return attempt

    def _judge(self, outcome: str, took_s: float, permit: Permit, *, is_fair: bool) -> None:
        """Tell the breaker how an attempt ended, unless that says nothing about the dependency.

        So it is when the caller left, when we had no connection to send on, and when the
        deadline cut the attempt below half the time the policy gives it.
        """
        dependency = self._dependency
        if Breaker.would_reject(permit):
            dependency.count_breaker_call("would_reject")
        elif outcome in _NEUTRAL or (outcome == "deadline" and not is_fair):
            dependency.breaker.cancel(permit)
            dependency.count_breaker_call("ignored")
        elif outcome in _HEALTHY:
            dependency.breaker.record(True, took_s, permit)
            is_slow = took_s * 1000.0 >= dependency.policy.breaker.slow_call_ms
            dependency.count_breaker_call("slow" if is_slow else "success")
        else:
            dependency.breaker.record(False, took_s, permit)
            dependency.count_breaker_call("failure")

    def _outcome_of_cancelling(self, deadline_at_s: float | None) -> str:
        """The middleware cancels at the deadline what is still waiting for an answer."""
        is_late = deadline_at_s is not None and self._clock() >= deadline_at_s
        return "deadline" if is_late else "cancelled"

    def _plan(
        self, request: httpx.Request, attempt: Attempt, sent: int, deadline_at_s: float | None
    ) -> tuple[float | None, str | None]:
        """The wait before the next attempt; or None, and why there is no next.

        The budget comes last: only a retry that nothing else forbids may spend it.
        """
        dependency = self._dependency
        stopped_by = self._forbidden_by(request, attempt, sent)
        if stopped_by is not None:
            return None, stopped_by
        wait_s = delay_s(dependency.policy.retry, sent, _asked_wait_s(attempt.response))
        if deadline_at_s is not None and self._clock() + wait_s + MIN_ATTEMPT_S > deadline_at_s:
            return None, "deadline"
        if wait_s > LONGEST_WAIT_S:
            return None, "wait"
        if not dependency.budget.spend():
            dependency.budget_exhausted.add()
            return None, "budget"
        return wait_s, None

    def _forbidden_by(self, request: httpx.Request, attempt: Attempt, sent: int) -> str | None:
        """What about this call rules out another attempt, whatever the load; None if nothing."""
        policy = self._dependency.policy.retry
        if attempt.outcome in ("deadline", "breaker_open"):
            return attempt.cause
        if attempt.cause not in policy.on:
            return "cause"
        has_key = "idempotency-key" in request.headers
        if not is_retryable_request(policy, request.method, has_idempotency_key=has_key):
            return "method"
        if not is_replayable(request):
            return "body"
        if sent >= policy.max_attempts:
            return "attempts"
        return "breaker" if self._is_open() else None

    def _is_open(self) -> bool:
        breaker = self._dependency.breaker
        if breaker.policy.mode is BreakerMode.SHADOW:
            return False
        return breaker.state in (BreakerState.OPEN, BreakerState.FORCED_OPEN)

    def _finish(
        self, attempt: Attempt, report: CallReport, deadline_at_s: float | None
    ) -> httpx.Response:
        self._dependency.count_request(attempt.outcome)
        if attempt.error is not None:
            attempt.error.add_note(
                f"tidegate: {report.attempts} sent, {report.stopped_by} ended it"
            )
            raise attempt.error
        response = attempt.answer()
        response.extensions["tidegate"] = report
        body = response.stream
        if deadline_at_s is None or not isinstance(body, httpx.AsyncByteStream):
            return response
        if not isinstance(body, httpx.ByteStream):
            name = self._dependency.name
            response.stream = DeadlineStream(body, deadline_at_s, self._clock, name)
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


def _asked_wait_s(response: httpx.Response | None) -> float | None:
    if response is None:
        return None
    return retry_after_s(response.headers.get("retry-after"), wall_s())

"""What is decided about a call: whether it may be sent, how it counts, whether again and when.

One set of rules for calls on an event loop and calls in threads: the transports only send and
wait. Every decision is one short method, so that a caller in a thread can hold `lock` over it.
"""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from tidegate.attempt import Attempt, refused, too_late
from tidegate.breaker import Breaker, BreakerState, Permit
from tidegate.clock import Clock, wall_s
from tidegate.context import current_request
from tidegate.dependency import Dependency
from tidegate.outbound_policy import BreakerMode
from tidegate.outgoing import add_context_headers, is_replayable, limit_timeouts
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


@dataclass(slots=True)  # frozen would double what it costs, once for each attempt
class Admission:
    """Leave to send once, for at most `limit_s`, which is less than usual when `is_clipped`."""

    permit: Permit
    started_s: float
    limit_s: float
    full_s: float

    @property
    def is_clipped(self) -> bool:
        """Whether the deadline left less than the policy gives an attempt."""
        return self.limit_s < self.full_s


class CallRules:
    """Decides for every call to one dependency.

    Whoever calls from several threads holds `dependency.lock` over each call of a method here,
    and never while sending or waiting.
    """

    def __init__(self, dependency: Dependency, clock: Clock) -> None:
        self.dependency = dependency
        self._clock = clock
        self.name = dependency.name

    @staticmethod
    def deadline_at_s() -> float | None:
        """When the request being handled ends, on the monotonic clock; None outside of one."""
        context = current_request()
        return None if context is None else context.deadline_at_s

    def admit(
        self, request: httpx.Request, deadline_at_s: float | None, *, is_first: bool
    ) -> Admission | Attempt:
        """Prepare the request for one attempt; or say how it ended without being sent."""
        dependency = self.dependency
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
        try:
            add_context_headers(request, started_s)
            limit_timeouts(request, timeouts.connect_ms / 1000.0, limit_s)
        except BaseException:
            dependency.breaker.cancel(permit)  # nothing will be sent that could come back
            raise
        return Admission(permit, started_s, limit_s, full_s)

    def settle(self, admission: Admission, outcome: str) -> None:
        """Count an attempt that was sent, and tell the breaker how it ended."""
        dependency = self.dependency
        took_s = self._clock() - admission.started_s
        dependency.attempt_duration.observe(took_s)
        dependency.count_attempt(outcome)
        is_fair = admission.limit_s * 2.0 >= admission.full_s
        self._judge(outcome, took_s, admission.permit, is_fair=is_fair)

    def outcome_of_leaving(self, deadline_at_s: float | None) -> str:
        """How a call ends whose caller left; what a middleware cancels at the deadline is late."""
        is_late = deadline_at_s is not None and self._clock() >= deadline_at_s
        return "deadline" if is_late else "cancelled"

    def leave(self, deadline_at_s: float | None) -> None:
        """Count a call whose caller left."""
        self.dependency.count_request(self.outcome_of_leaving(deadline_at_s))

    def plan(
        self, request: httpx.Request, attempt: Attempt, sent: int, deadline_at_s: float | None
    ) -> tuple[float | None, str | None]:
        """The wait before the next attempt; or None, and why there is no next: not after a success.

        The budget comes last: only a retry that nothing else forbids may spend it.
        """
        if not attempt.cause:
            return None, None
        dependency = self.dependency
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

    def finish(self, attempt: Attempt, report: CallReport) -> httpx.Response:
        """Count a call that ended, and return its response.

        Raises:
            httpx.TransportError: it ended without one; a note says why it was not tried again.
        """
        self.dependency.count_request(attempt.outcome)
        if attempt.error is not None:
            attempt.error.add_note(
                f"tidegate: {report.attempts} sent, {report.stopped_by} ended it"
            )
            raise attempt.error
        response = attempt.answer()
        response.extensions["tidegate"] = report
        return response

    def _judge(self, outcome: str, took_s: float, permit: Permit, *, is_fair: bool) -> None:
        """Tell the breaker how an attempt ended, unless that says nothing about the dependency.

        So it is when the caller left, when we had no connection to send on, and when the
        deadline cut the attempt below half the time the policy gives it.
        """
        dependency = self.dependency
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

    def _forbidden_by(self, request: httpx.Request, attempt: Attempt, sent: int) -> str | None:
        """What about this call rules out another attempt, whatever the load; None if nothing."""
        policy = self.dependency.policy.retry
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
        breaker = self.dependency.breaker
        if breaker.policy.mode is BreakerMode.SHADOW:
            return False
        return breaker.state in (BreakerState.OPEN, BreakerState.FORCED_OPEN)


def _asked_wait_s(response: httpx.Response | None) -> float | None:
    if response is None:
        return None
    return retry_after_s(response.headers.get("retry-after"), wall_s())

"""Outbound HTTP under a policy, for services that work in threads: Flask, Django, scripts.

The decisions are those of the asyncio transport; only sending and waiting differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Any

import httpx

from tidegate.attempt import Attempt, send_once_in_thread
from tidegate.calls import CallReport, CallRules
from tidegate.clock import Clock, monotonic_s
from tidegate.dependency import PolicySource, dependency_of
from tidegate.outgoing import ShrinkingTimeouts, SyncDeadlineStream


class SyncTidegateTransport(httpx.BaseTransport):
    """Wraps another transport and protects the calls to one dependency; thread-safe.

    An attempt is kept within its time by its timeouts, since nothing can cancel a thread: an
    answer whose head comes in drips may take longer.

    Args:
        source: where the policy comes from, usually a `SyncPolicyClient`.
        dependency: its name in the policy and in the metrics.
        wrapped: what sends; closed with this one. Leave its own retries off.
        clock: monotonic seconds.
        sleep: waits out a backoff.
    """

    def __init__(
        self,
        source: PolicySource,
        dependency: str,
        wrapped: httpx.BaseTransport | None = None,
        *,
        clock: Clock = monotonic_s,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rules = CallRules(dependency_of(source, dependency, clock), clock)
        self._wrapped = httpx.HTTPTransport() if wrapped is None else wrapped
        self._clock = clock
        self._sleep = sleep

    def handle_request(self, request: httpx.Request) -> httpx.Response:
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
                attempt = self._attempt(request, deadline_at_s, is_first=sent == 0)
                sent += attempt.is_sent
                try:
                    with rules.dependency.lock:
                        wait_s, stopped_by = rules.plan(request, attempt, sent, deadline_at_s)
                        if wait_s is None:
                            response = rules.finish(attempt, CallReport(sent, stopped_by))
                            return self._bounded(request, response, deadline_at_s)
                except BaseException:
                    attempt.close_in_thread()  # nobody else has the response, to give it back
                    raise
                if attempt.response is not None:
                    attempt.discard_in_thread(_timeouts(request))
                self._sleep(wait_s)
        except (KeyboardInterrupt, SystemExit):
            with rules.dependency.lock:
                rules.leave(deadline_at_s)
            raise

    def close(self) -> None:
        """Close what this transport wraps."""
        self._wrapped.close()

    def _attempt(
        self, request: httpx.Request, deadline_at_s: float | None, *, is_first: bool
    ) -> Attempt:
        rules = self._rules
        with rules.dependency.lock:
            admission = rules.admit(request, deadline_at_s, is_first=is_first)
        if isinstance(admission, Attempt):
            return admission
        extensions: MutableMapping[str, Any] = request.extensions
        caps = extensions["timeout"]
        ends_at_s = admission.started_s + admission.limit_s
        extensions["timeout"] = ShrinkingTimeouts(caps, ends_at_s, self._clock)
        outcome = "mistake"
        try:
            attempt = send_once_in_thread(
                self._wrapped,
                request,
                rules.name,
                admission.limit_s,
                is_clipped=admission.is_clipped,
            )
            outcome = attempt.outcome
        finally:
            with rules.dependency.lock:
                rules.settle(admission, outcome)
        return attempt

    def _bounded(
        self, request: httpx.Request, response: httpx.Response, deadline_at_s: float | None
    ) -> httpx.Response:
        """The response, whose body must end before the deadline unless it is here already."""
        _timeouts(request).end_at(deadline_at_s)
        body = response.stream
        if deadline_at_s is None or not isinstance(body, httpx.SyncByteStream):
            return response
        if not isinstance(body, httpx.ByteStream):
            name = self._rules.name
            response.stream = SyncDeadlineStream(body, deadline_at_s, self._clock, name)
        return response


def sync_http_client(
    source: PolicySource,
    dependency: str,
    base_url: str = "",
    *,
    wrapped: httpx.BaseTransport | None = None,
) -> httpx.Client:
    """An httpx client for one dependency under the policy of `source`, for use in threads.

    Its timeouts are the policy's: httpx's default of 5 s is off. Close it like any other.
    """
    transport = SyncTidegateTransport(source, dependency, wrapped)
    return httpx.Client(base_url=base_url, transport=transport, timeout=None)  # noqa: S113


def _timeouts(request: httpx.Request) -> ShrinkingTimeouts:
    """The timeouts that `_attempt` put into a request that it sent."""
    timeouts = request.extensions["timeout"]
    if not isinstance(timeouts, ShrinkingTimeouts):
        raise TypeError("a request that was sent has timeouts that shrink")
    return timeouts

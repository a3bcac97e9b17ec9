"""The outbound half in threads: the same decisions, with other ways to send and to wait."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.sdk.inbound import FakeClock
from tests.sdk.outbound import (
    Played,
    breaker_policy,
    dependency_policy,
    policy_of,
    request_with,
)
from tests.sdk.servers import server_that_says_once
from tests.waiting import HUNG_S
from tidegate import (
    BreakerOpen,
    DeadlineExceeded,
    FixedPolicy,
    SyncTidegateTransport,
    sync_http_client,
)
from tidegate.outbound_policy import BudgetPolicy, DependencyPolicy, TimeoutsPolicy
from tidegate.outgoing import ShrinkingTimeouts

ENDLESS_MS = 24 * 3600 * 1000.0


class Script(httpx.BaseTransport):
    """A dependency that answers each attempt with the next of `answers`, the last for ever."""

    def __init__(self, answers: tuple[Played, ...]) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.headers: list[httpx.Headers] = []
        self.timeouts: list[dict[str, float]] = []
        self.is_closed = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.headers.append(request.headers.copy())
        self.timeouts.append(dict(request.extensions["timeout"]))
        played = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(played, Exception):
            raise played
        if isinstance(played, httpx.Response):
            return played
        return httpx.Response(played) if isinstance(played, int) else played(request)

    def close(self) -> None:
        self.is_closed = True


class Caller:
    """A client of `payments` in a thread, with time and waiting in the test's hands."""

    def __init__(self, *answers: Played, policy: DependencyPolicy | None = None) -> None:
        self.clock = FakeClock()
        self.waits_s: list[float] = []
        self.source = FixedPolicy(policy_of(policy or dependency_policy()))
        self.script = Script(answers)
        transport = SyncTidegateTransport(
            self.source, "payments", self.script, clock=self.clock, sleep=self._sleep
        )
        self.http = httpx.Client(transport=transport, base_url="http://payments", timeout=None)

    def _sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)
        self.clock.advance(seconds)

    def counted(self, outcome: str) -> float:
        return self.source.metrics.client_requests.child("payments", outcome).value


def test_a_failure_that_the_policy_names_is_tried_again() -> None:
    caller = Caller(503, httpx.ConnectError("refused"), 200)

    answer = caller.http.get("/")

    assert answer.status_code == 200
    assert answer.extensions["tidegate"].attempts == 3
    assert len(caller.waits_s) == 2
    assert (caller.counted("success"), caller.counted("error")) == (1, 0)


def test_the_last_failure_says_why_it_was_the_last() -> None:
    caller = Caller(httpx.ConnectError("refused"))

    with pytest.raises(httpx.ConnectError) as caught:
        caller.http.get("/")

    assert caught.value.__notes__ == ["tidegate: 3 sent, attempts ended it"]


def test_a_post_is_not_tried_again_without_a_key_and_is_with_one() -> None:
    caller = Caller(503)

    assert caller.http.post("/").extensions["tidegate"].stopped_by == "method"
    keyed = caller.http.post("/", json={}, headers={"Idempotency-Key": "order-1"})

    assert keyed.extensions["tidegate"].stopped_by == "attempts"


def test_retries_stop_when_the_budget_is_spent() -> None:
    budget = BudgetPolicy(ratio=0.0, min_per_s=0.1, window_s=10)
    caller = Caller(503, policy=dependency_policy(budget=budget))

    reports = [caller.http.get("/").extensions["tidegate"] for _ in range(3)]

    assert [report.attempts for report in reports] == [2, 1, 1]
    assert {report.stopped_by for report in reports} == {"budget"}


def test_a_response_that_nobody_gets_because_deciding_failed_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*policy_and_more: object) -> float:
        raise RuntimeError("broken")

    caller = Caller(200)
    body = SlowBody(caller.clock)
    caller.script._answers = [httpx.Response(503, stream=body)]
    monkeypatch.setattr("tidegate.calls.delay_s", broken)

    with pytest.raises(RuntimeError, match="broken"):
        caller.http.get("/")

    assert body.is_closed


def test_an_open_breaker_refuses_without_sending() -> None:
    caller = Caller(500, policy=dependency_policy(breaker=breaker_policy(), max_attempts=1))
    for _ in range(4):
        caller.http.get("/")

    with pytest.raises(BreakerOpen):
        caller.http.get("/")

    assert len(caller.script.requests) == 4
    assert caller.counted("breaker_open") == 1


def test_the_request_being_handled_is_carried_on_and_its_deadline_shrinks() -> None:
    caller = Caller(503, 200)

    with request_with(caller.clock, 2.0):
        caller.http.get("/")

    first, second = caller.script.headers
    assert (first["x-request-id"], first["x-tenant"]) == ("req-1", "acme")
    assert int(second["x-request-deadline-ms"]) < int(first["x-request-deadline-ms"]) == 2000


def test_after_the_deadline_nothing_is_sent() -> None:
    caller = Caller(200)

    with request_with(caller.clock, 0.0), pytest.raises(DeadlineExceeded):
        caller.http.get("/")

    assert caller.script.requests == []


def test_an_answer_that_the_deadline_cut_off_says_so() -> None:
    caller = Caller(httpx.ReadTimeout("slow"))

    with request_with(caller.clock, 0.4), pytest.raises(DeadlineExceeded):
        caller.http.get("/")

    assert caller.script.timeouts[0]["read"] == pytest.approx(0.4)
    assert caller.counted("deadline") == 1


def slowly(caller: Caller, status: int) -> Played:
    def answer(request: httpx.Request) -> httpx.Response:
        caller.clock.advance(0.6)
        return httpx.Response(status)

    return answer


def test_each_attempt_has_its_own_full_time() -> None:
    caller = Caller(200)
    caller.script._answers = [slowly(caller, 503), slowly(caller, 200)]

    caller.http.get("/", timeout=0.7)

    first, second = caller.script.timeouts
    assert first["read"] == second["read"] == pytest.approx(0.7)


def test_once_an_answer_has_begun_its_body_is_not_cut_by_the_time_of_the_attempt() -> None:
    caller = Caller(200)
    caller.script._answers = [slowly(caller, 200)]

    caller.http.get("/")

    caller.clock.advance(60)
    assert caller.script.requests[0].extensions["timeout"]["read"] == 1.0


def test_the_steps_of_an_attempt_share_its_time() -> None:
    clock = FakeClock()
    timeouts = ShrinkingTimeouts({"connect": 0.25, "read": 1.0}, clock() + 1.0, clock)

    assert dict(timeouts) == {"connect": 0.25, "read": 1.0}
    clock.advance(0.9)
    assert timeouts.get("read") == pytest.approx(0.1)
    clock.advance(5)
    assert timeouts.get("read") == 0.001
    timeouts.end_at(None)
    assert timeouts.get("read") == 1.0


class SlowBody(httpx.SyncByteStream):
    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(5):
            yield b"part"
            self._clock.advance(0.5)

    def close(self) -> None:
        self.is_closed = True


def test_a_body_ends_at_the_deadline_of_the_request_it_is_read_for() -> None:
    caller = Caller(200)
    body = SlowBody(caller.clock)
    caller.script._answers = [httpx.Response(200, stream=body)]

    with request_with(caller.clock, 1.2), pytest.raises(DeadlineExceeded):
        caller.http.get("/")

    assert body.is_closed


def test_an_interrupted_call_is_counted_as_cancelled() -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    caller = Caller(interrupt)

    with pytest.raises(KeyboardInterrupt):
        caller.http.get("/")

    assert caller.counted("cancelled") == 1


def test_no_call_of_many_threads_is_lost_in_the_counters() -> None:
    caller = Caller(200)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: caller.http.get(f"/{number}"), range(400)))

    assert caller.counted("success") == 400
    attempts = caller.source.metrics.client_attempt_duration.child("payments")
    assert sum(attempts.counts) == 400


def test_transports_of_one_dependency_share_its_breaker() -> None:
    source = FixedPolicy(policy_of(dependency_policy(breaker=breaker_policy(), max_attempts=1)))
    failing = sync_http_client(source, "payments", "http://payments", wrapped=Script((500,)))
    other = sync_http_client(source, "payments", "http://payments", wrapped=Script((200,)))
    for _ in range(4):
        failing.get("/")

    with pytest.raises(BreakerOpen):
        other.get("/")


def test_closing_the_client_closes_what_it_wraps() -> None:
    caller = Caller(200)

    caller.http.close()

    assert caller.script.is_closed


class JumpingClock:
    """The real clock, ahead of itself by what it is told."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


def policy_with(attempt_ms: float) -> DependencyPolicy:
    timeouts = TimeoutsPolicy(connect_ms=attempt_ms, attempt_ms=attempt_ms)
    return dataclasses.replace(dependency_policy(max_attempts=1), timeouts=timeouts)


def test_a_real_server_that_falls_silent_costs_no_more_than_an_attempt() -> None:
    source = FixedPolicy(policy_of(policy_with(ENDLESS_MS)))
    with (
        server_that_says_once(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as url,
        sync_http_client(source, "payments", url) as http,
    ):
        assert http.get("/").status_code == 200  # so the connection is there

        source.change(policy_of(policy_with(attempt_ms=50)))
        with pytest.raises(httpx.ReadTimeout, match="did not answer within 50 ms") as caught:
            http.get("/")

    assert caught.value.__notes__ == ["tidegate: 1 sent, attempts ended it"]


def test_a_real_body_that_stalls_ends_at_the_deadline() -> None:
    clock = JumpingClock()
    source = FixedPolicy(policy_of(policy_with(ENDLESS_MS)))
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    with (
        server_that_says_once(half) as url,
        httpx.Client(
            transport=SyncTidegateTransport(source, "payments", clock=clock),
            base_url=url,
            timeout=None,
        ) as http,
        request_with(clock, HUNG_S),
        http.stream("GET", "/") as response,
    ):
        clock.ahead_s = HUNG_S - 0.05

        with pytest.raises(DeadlineExceeded):
            response.read()

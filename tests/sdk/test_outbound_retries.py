from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.sdk.outbound import ENDLESS_BUDGET, Caller, dependency_policy, policy_of
from tests.waiting import HUNG_S
from tidegate import CallReport
from tidegate.outbound_policy import BudgetPolicy, Jitter, RetryMethods
from tidegate.retry import backoff_s, retry_after_s

TRANSIENT = dependency_policy(max_attempts=3, on=frozenset({"connect_error", "timeout", "503"}))


def stopped_by(response: httpx.Response) -> str | None:
    report: CallReport = response.extensions["tidegate"]
    return report.stopped_by


async def test_a_transient_failure_is_tried_again() -> None:
    caller = Caller(503, httpx.ReadTimeout("slow"), 200, policy=TRANSIENT)

    response = await caller.get()

    assert response.status_code == 200
    assert response.extensions["tidegate"] == CallReport(attempts=3, stopped_by=None)
    assert caller.attempts_counted("error") == 1
    assert caller.attempts_counted("timeout") == 1
    assert caller.attempts_counted("success") == 1
    assert caller.requests_counted("success") == 1


async def test_the_last_failure_is_what_the_caller_gets() -> None:
    caller = Caller(httpx.ConnectError("refused"), policy=TRANSIENT)

    with pytest.raises(httpx.ConnectError) as caught:
        await caller.get()

    assert caller.sent == 3
    assert caught.value.__notes__ == ["tidegate: 3 sent, attempts ended it"]
    assert caller.requests_counted("connect_error") == 1


@pytest.mark.parametrize(
    "failure",
    [httpx.ReadError("reset"), httpx.RemoteProtocolError("closed"), httpx.ConnectTimeout("slow")],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_broken_connection_is_a_connect_error(failure: Exception) -> None:
    caller = Caller(failure, 200, policy=dependency_policy(on=frozenset({"connect_error"})))

    assert (await caller.get()).status_code == 200
    assert caller.attempts_counted("connect_error") == 1


async def test_a_failure_that_the_policy_does_not_name_is_final() -> None:
    caller = Caller(500, policy=TRANSIENT)

    response = await caller.get()

    assert (response.status_code, caller.sent, stopped_by(response)) == (500, 1, "cause")


async def test_a_policy_may_name_429() -> None:
    caller = Caller(429, 200, policy=dependency_policy(on=frozenset({"429"})))

    assert (await caller.get()).status_code == 200
    assert caller.attempts_counted("limited") == 1


@pytest.mark.parametrize(
    ("method", "headers", "sent"),
    [
        ("GET", {}, 3),
        ("PUT", {}, 3),
        ("DELETE", {}, 3),
        ("POST", {}, 1),
        ("PATCH", {}, 1),
        ("POST", {"Idempotency-Key": "k-1"}, 3),
    ],
)
async def test_only_what_is_safe_to_repeat_is_repeated(
    method: str, headers: dict[str, str], sent: int
) -> None:
    caller = Caller(503, policy=TRANSIENT)

    response = await caller.http.request(method, "/", headers=headers, json={"amount": 1})

    assert caller.sent == sent
    assert stopped_by(response) == ("attempts" if sent == 3 else "method")


async def test_a_policy_may_retry_every_method() -> None:
    caller = Caller(503, 201, policy=dependency_policy(methods=RetryMethods.ALL))

    assert (await caller.http.post("/", json={})).status_code == 201


async def chunks() -> AsyncIterator[bytes]:
    yield b"once"


async def test_a_streamed_body_is_not_sent_twice() -> None:
    caller = Caller(503, policy=TRANSIENT)

    response = await caller.http.put("/", content=chunks())

    assert (caller.sent, stopped_by(response)) == (1, "body")


async def test_a_streamed_body_that_can_restart_is_sent_again() -> None:
    class Restarting(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"again"

    caller = Caller(503, 200, policy=TRANSIENT)
    request = caller.http.build_request("PUT", "/", extensions={"tidegate_replayable": True})
    request.stream = Restarting()

    assert (await caller.http.send(request)).status_code == 200


async def test_the_response_of_a_failed_attempt_is_closed() -> None:
    failed = httpx.Response(503, content=b"busy")
    caller = Caller(failed, 200, policy=TRANSIENT)

    await caller.get()

    assert failed.is_closed


async def test_a_response_that_nobody_gets_because_deciding_failed_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*policy_and_more: object) -> float:
        raise RuntimeError("broken")

    monkeypatch.setattr("tidegate.calls.delay_s", broken)
    failed = httpx.Response(503, stream=Trickling())
    caller = Caller(failed, policy=TRANSIENT)

    with pytest.raises(RuntimeError, match="broken"):
        await caller.get()

    assert failed.is_closed


async def test_a_caller_that_leaves_while_a_failure_is_read_leaves_it_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tidegate.attempt._DRAIN_S", HUNG_S)  # nobody but the caller gives up
    body = Trickling()
    failed = httpx.Response(503, headers={"Content-Length": "10"}, stream=body)
    caller = Caller(failed, 200, policy=TRANSIENT)

    calling = asyncio.create_task(caller.get())
    await body.is_read.wait()
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)

    assert calling.cancelled()
    assert failed.is_closed


class Trickling(httpx.AsyncByteStream):
    """A body that begins, and goes on when nobody waits any more."""

    def __init__(self) -> None:
        self.is_read = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.is_read.set()
        yield b"busy"
        await asyncio.Event().wait()


async def test_full_jitter_waits_anywhere_below_the_exponential_bound() -> None:
    policy = dependency_policy().retry  # 50 ms, doubling, at most 2 s

    assert [backoff_s(policy, n, lambda: 1.0) for n in (1, 2, 3, 7, 5000)] == [
        0.05,
        0.1,
        0.2,
        2.0,
        2.0,
    ]
    assert backoff_s(policy, 3, lambda: 0.25) == 0.05
    assert backoff_s(policy, 3, lambda: 0.0) == 0.0


async def test_without_jitter_the_bound_is_the_wait() -> None:
    retry = dependency_policy().retry
    backoff: Any = type(retry.backoff)(50, 2.0, 2000, Jitter.NONE)
    caller = Caller(503, policy=dependency_policy(max_attempts=3, backoff=backoff))

    await caller.get()

    assert caller.waits_s == [0.05, 0.1]


async def test_retry_after_is_honoured_when_it_fits_the_deadline() -> None:
    asked = httpx.Response(503, headers={"Retry-After": "2"})
    caller = Caller(asked, 200, policy=TRANSIENT)

    assert (await caller.get_within(5.0)).status_code == 200
    assert caller.waits_s == [2.0]


async def test_retry_after_beyond_the_deadline_ends_it() -> None:
    caller = Caller(httpx.Response(503, headers={"Retry-After": "2"}), policy=TRANSIENT)

    response = await caller.get_within(2.0)

    assert (caller.sent, caller.waits_s, stopped_by(response)) == (1, [], "deadline")


@pytest.mark.parametrize("asked", ["61", "9" * 400, "Mon, 02 Nov 2099 02:14:10 GMT"])
async def test_a_dependency_cannot_make_a_call_without_deadline_wait_for_ever(asked: str) -> None:
    caller = Caller(httpx.Response(503, headers={"Retry-After": asked}), policy=TRANSIENT)

    response = await caller.get()

    assert (caller.sent, caller.waits_s, stopped_by(response)) == (1, [], "wait")


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("7", 7.0),
        ("Mon, 02 Nov 2026 02:14:10 GMT", 10.0),
        ("Mon, 02 Nov 2026 02:13:00 GMT", 0.0),
        ("soon", None),
        ("Mon, 02 Nov 99999999999999999999 02:14:10 GMT", None),
        ("-3", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, wait_s: float | None) -> None:
    assert retry_after_s(text, now_unix_s=1793585640.0) == wait_s


async def test_the_budget_stops_a_retry_storm() -> None:
    policy = dependency_policy(max_attempts=4, budget=BudgetPolicy(0.1, 0, 10))
    caller = Caller(503, policy=policy)

    responses = []
    for _ in range(300):
        responses.append(await caller.get())
        caller.clock.advance(0.1)  # so there are a hundred in a window

    assert caller.sent / 300 <= 1.1
    exhausted = caller.source.metrics.retry_budget_exhausted.child("payments").value
    assert exhausted == sum(stopped_by(response) == "budget" for response in responses) > 240


async def test_the_floor_is_all_that_a_quiet_caller_adds() -> None:
    caller = Caller(503, policy=dependency_policy(max_attempts=4, budget=BudgetPolicy(0.1, 1, 10)))

    for _ in range(60):
        await caller.get()
        caller.clock.advance(1.0)

    elapsed_s = 60 + sum(caller.waits_s)
    assert caller.sent - 60 <= 0.1 * 60 + 1 * (elapsed_s + 11)
    assert caller.sent - 60 >= 50


async def test_a_smaller_budget_acts_on_the_very_next_failure() -> None:
    caller = Caller(503, policy=dependency_policy(max_attempts=4, budget=ENDLESS_BUDGET))
    await caller.get()
    assert caller.sent == 4

    tight = dependency_policy(max_attempts=2, budget=BudgetPolicy(0.0, 0, 10))
    caller.source.change(policy_of(tight))
    response = await caller.get()

    assert (caller.sent, stopped_by(response)) == (5, "budget")

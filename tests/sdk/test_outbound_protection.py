from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.sdk.outbound import Caller, breaker_policy, dependency_policy, policy_of
from tidegate import BreakerOpen, CallReport, DeadlineExceeded, TidegateTransport
from tidegate.outbound_policy import BreakerMode, TimeoutsPolicy

GUARDED = dependency_policy(breaker=breaker_policy(min_calls=4), max_attempts=1)


async def fail(caller: Caller, times: int) -> None:
    for _ in range(times):
        await caller.get()


async def test_an_open_breaker_refuses_without_sending() -> None:
    caller = Caller(503, policy=GUARDED)
    await fail(caller, 4)

    with pytest.raises(BreakerOpen, match=r"payments is open; try again in 15\.0 s"):
        await caller.get()

    assert caller.sent == 4
    assert caller.requests_counted("breaker_open") == 1
    assert caller.breaker_calls_counted("failure") == 4
    assert caller.breaker_calls_counted("rejected") == 1


async def test_the_state_is_read_at_each_scrape() -> None:
    caller = Caller(503, policy=GUARDED)
    assert _state(caller) == "closed"

    await fail(caller, 4)
    assert _state(caller) == "open"

    caller.clock.advance(15)
    assert _state(caller) == "half_open"


def _state(caller: Caller) -> str:
    samples = caller.source.metrics.breaker_state.samples()
    (state,) = [dict(labels)["state"] for _, labels, value in samples if value == 1.0]
    return state


async def test_failures_of_the_caller_do_not_open_the_breaker() -> None:
    caller = Caller(404, policy=GUARDED)

    for _ in range(20):
        await caller.get()

    assert caller.breaker_calls_counted("success") == 20


async def test_a_shadow_breaker_counts_what_it_would_have_refused() -> None:
    shadow = breaker_policy(min_calls=4, mode=BreakerMode.SHADOW)
    caller = Caller(503, policy=dependency_policy(breaker=shadow, max_attempts=1))

    await fail(caller, 6)

    assert caller.sent == 6
    assert caller.breaker_calls_counted("would_reject") == 2


async def test_forcing_the_breaker_open_acts_at_once_and_keeps_the_window() -> None:
    caller = Caller(503, policy=GUARDED)
    await fail(caller, 3)

    forced = breaker_policy(min_calls=4, mode=BreakerMode.FORCED_OPEN)
    caller.source.change(policy_of(dependency_policy(breaker=forced)))
    with pytest.raises(BreakerOpen):
        await caller.get()

    assert _state(caller) == "forced_open"


async def test_a_breaker_that_opens_during_a_call_ends_its_retries() -> None:
    caller = Caller(503, policy=dependency_policy(breaker=breaker_policy(), max_attempts=10))

    response = await caller.get()

    assert response.extensions["tidegate"] == CallReport(attempts=4, stopped_by="breaker")


async def test_two_transports_to_one_dependency_share_its_breaker() -> None:
    caller = Caller(503, policy=GUARDED)
    other = httpx.AsyncClient(
        transport=TidegateTransport(caller.source, "payments", caller.script), base_url="http://p"
    )
    await fail(caller, 4)

    with pytest.raises(BreakerOpen):
        await other.get("/")


async def test_the_current_request_travels_on() -> None:
    caller = Caller(503, 200)

    await caller.get_within(3.0, headers={"X-Tenant": "initech"})

    first, second = caller.script.headers
    assert first["x-request-id"] == "req-1"
    assert first["x-criticality"] == "critical"
    assert first["x-tenant"] == "initech"
    assert first["x-request-deadline-ms"] == "3000"
    assert second["x-request-deadline-ms"] == str(int(3000 - sum(caller.waits_s) * 1000))
    assert second.get_list("x-request-id") == ["req-1"]


async def test_outside_a_request_nothing_is_added() -> None:
    caller = Caller(200)

    await caller.get()

    assert not [name for name in caller.script.headers[0] if name.startswith("x-")]


async def test_timeouts_are_those_of_the_policy_clipped_to_the_deadline() -> None:
    policy = dataclasses.replace(dependency_policy(), timeouts=TimeoutsPolicy(250, 1000))
    caller = Caller(200, policy=policy)

    await caller.get()
    await caller.get_within(0.1)
    await caller.get(timeout=0.2)

    assert caller.script.timeouts == [
        {"connect": 0.25, "read": 1.0, "write": 1.0, "pool": 0.25},
        pytest.approx({"connect": 0.1, "read": 0.1, "write": 0.1, "pool": 0.1}),
        {"connect": 0.2, "read": 0.2, "write": 0.2, "pool": 0.2},
    ]


async def test_a_passed_deadline_sends_nothing() -> None:
    caller = Caller(200)

    with pytest.raises(DeadlineExceeded, match="the deadline passed before payments answered"):
        await caller.get_within(0.0)

    assert caller.sent == 0
    assert caller.requests_counted("deadline") == 1


async def test_an_attempt_that_the_deadline_cut_short_is_not_held_against_the_dependency() -> None:
    caller = Caller(httpx.ReadTimeout("slow"), policy=GUARDED)

    for _ in range(10):
        with pytest.raises(DeadlineExceeded):
            await caller.get_within(0.2)
    assert caller.breaker_calls_counted("ignored") == 10

    for _ in range(4):
        with pytest.raises(DeadlineExceeded):
            await caller.get_within(0.8)
    assert _state(caller) == "open"


async def test_an_exhausted_pool_of_ours_is_not_held_against_the_dependency() -> None:
    caller = Caller(httpx.PoolTimeout("busy"), policy=GUARDED)

    for _ in range(10):
        with pytest.raises(httpx.PoolTimeout):
            await caller.get()

    assert _state(caller) == "closed"
    assert caller.requests_counted("no_connection") == 10


class Silent(httpx.AsyncBaseTransport):
    """A dependency that takes a request and never answers it."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.taken.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


def silent(caller: Caller) -> tuple[Silent, httpx.AsyncClient]:
    wrapped = Silent()
    transport = TidegateTransport(caller.source, "payments", wrapped)
    return wrapped, httpx.AsyncClient(transport=transport, base_url="http://payments")


async def test_an_attempt_is_cut_off_even_when_the_wrapped_transport_has_no_timeouts() -> None:
    brief = dataclasses.replace(GUARDED, timeouts=TimeoutsPolicy(5, 5))
    caller = Caller(200, policy=brief)
    _, http = silent(caller)

    with pytest.raises(httpx.ReadTimeout, match="payments did not answer within 5 ms"):
        await http.get("/")

    assert caller.attempts_counted("timeout") == 1


async def test_a_caller_that_leaves_gives_its_probe_back() -> None:
    caller = Caller(
        503, policy=dependency_policy(breaker=breaker_policy(half_open_calls=1), max_attempts=4)
    )
    wrapped, http = silent(caller)
    await fail(caller, 1)
    caller.clock.advance(15)

    leaving = asyncio.create_task(http.get("/"))
    await wrapped.taken.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving

    assert caller.requests_counted("cancelled") == 1
    assert caller.breaker_calls_counted("ignored") == 1
    assert _state(caller) == "half_open"
    await caller.get()


class Dripping(httpx.AsyncByteStream):
    """A body whose second chunk never comes."""

    def __init__(self) -> None:
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.is_closed = True


async def test_the_deadline_bounds_the_body_too() -> None:
    body = Dripping()
    caller = Caller(httpx.Response(200, stream=body))

    with pytest.raises(DeadlineExceeded):
        await caller.get_within(0.02)

    assert body.is_closed

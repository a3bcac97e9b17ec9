"""A half-open breaker judges its probes by the policy, whatever their order and spacing."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.inbound import FakeClock
from tests.sdk.outbound import Caller, breaker_policy, dependency_policy
from tidegate.breaker import Breaker, BreakerState, Permit
from tidegate.outbound_policy import BreakerMode, BreakerPolicy

QUICK_S, SLOW_S = 0.01, 5.0


def half_open(clock: FakeClock, **policy: Any) -> Breaker:
    """A breaker that left `forced_open`, and so has to probe."""
    breaker = Breaker(breaker_policy(mode=BreakerMode.FORCED_OPEN), clock)
    breaker.retune(breaker_policy(**policy))
    return breaker


def state_of(breaker: Breaker) -> BreakerState:
    return breaker.state


def admitted(breaker: Breaker) -> Permit:
    permit = breaker.allow()
    assert permit is not None
    return permit


def test_good_answers_close_it_however_far_apart_they_are() -> None:
    clock = FakeClock()
    breaker = half_open(clock, open_s=15, half_open_calls=5, failure_rate=0.1)

    for _ in range(5):
        assert state_of(breaker) is BreakerState.HALF_OPEN
        breaker.record(True, QUICK_S, admitted(breaker))
        clock.advance(100)

    assert state_of(breaker) is BreakerState.CLOSED


def test_good_answers_that_take_longer_than_open_s_close_it() -> None:
    clock = FakeClock()
    breaker = half_open(clock, open_s=1, half_open_calls=5, failure_rate=0.1, slow_call_ms=60_000.0)

    for _ in range(5):
        permit = admitted(breaker)
        clock.advance(10)
        breaker.record(True, 10.0, permit)

    assert state_of(breaker) is BreakerState.CLOSED


def test_a_place_lent_to_another_probe_takes_no_answer_away() -> None:
    clock = FakeClock()
    breaker = half_open(clock, open_s=15, half_open_calls=2, slow_call_ms=60_000.0)
    first, second = admitted(breaker), admitted(breaker)
    clock.advance(15)
    third = admitted(breaker)  # while the first two seem lost

    breaker.record(True, 15.0, first)
    breaker.record(True, 15.0, second)

    assert state_of(breaker) is BreakerState.CLOSED
    breaker.record(False, QUICK_S, third)
    assert breaker.counts().calls == 0


def test_it_closes_as_soon_as_no_answer_could_open_it_any_more() -> None:
    breaker = half_open(FakeClock(), half_open_calls=5, failure_rate=0.5, slow_call_rate=0.5)

    for _ in range(3):
        assert state_of(breaker) is BreakerState.HALF_OPEN
        breaker.record(True, QUICK_S, admitted(breaker))

    assert state_of(breaker) is BreakerState.CLOSED


def test_slow_probes_open_it_although_they_succeed() -> None:
    breaker = half_open(FakeClock(), half_open_calls=5, slow_call_rate=0.4)

    for _ in range(2):
        breaker.record(True, SLOW_S, admitted(breaker))

    assert state_of(breaker) is BreakerState.OPEN


def test_bad_answers_open_it_however_far_apart_they_are() -> None:
    clock = FakeClock()
    breaker = half_open(clock, open_s=1, half_open_calls=5, failure_rate=0.4)

    breaker.record(False, QUICK_S, admitted(breaker))
    clock.advance(100)
    breaker.record(True, QUICK_S, admitted(breaker))
    clock.advance(100)
    breaker.record(False, QUICK_S, admitted(breaker))

    assert state_of(breaker) is BreakerState.OPEN


def test_only_so_many_probes_are_under_way_and_a_cancelled_one_makes_room() -> None:
    breaker = half_open(FakeClock(), half_open_calls=3, failure_rate=0.1)
    first = admitted(breaker)
    breaker.record(True, QUICK_S, admitted(breaker))
    admitted(breaker)
    assert breaker.allow() is None

    breaker.cancel(first)
    breaker.cancel(first)  # a second time it gives nothing back

    admitted(breaker)
    assert breaker.allow() is None


def test_a_probe_of_the_parent_takes_no_place_in_a_forked_child() -> None:
    breaker = half_open(FakeClock(), half_open_calls=1)
    admitted(breaker)

    breaker.renew_after_fork()

    admitted(breaker)


def test_answers_counted_without_a_permit_take_one_place_each() -> None:
    breaker = half_open(FakeClock(), half_open_calls=4, failure_rate=0.1)

    for _ in range(4):
        admitted(breaker)
        breaker.record(True, QUICK_S)

    assert state_of(breaker) is BreakerState.CLOSED


async def test_a_probe_whose_caller_goes_away_gives_its_permit_back() -> None:
    caller = Caller(200, policy=dependency_policy(breaker=breaker_policy(half_open_calls=1)))
    breaker = caller.transport._rules.dependency.breaker
    for _ in range(4):
        breaker.record(False, QUICK_S, breaker.allow())
    caller.clock.advance(15)
    sent = asyncio.Event()

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            sent.set()
            await asyncio.Event().wait()
            raise AssertionError

    answering, caller.transport._wrapped = caller.transport._wrapped, Silent()
    probe = asyncio.create_task(caller.get())
    await sent.wait()
    assert breaker.allow() is None
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)

    caller.transport._wrapped = answering
    assert (await caller.get()).status_code == 200
    assert state_of(breaker) is BreakerState.CLOSED


async def test_a_call_that_cannot_be_prepared_gives_its_permit_back() -> None:
    caller = Caller(200, policy=dependency_policy(breaker=breaker_policy(half_open_calls=1)))
    breaker = caller.transport._rules.dependency.breaker
    for _ in range(4):
        breaker.record(False, QUICK_S, breaker.allow())
    caller.clock.advance(15)

    with pytest.raises(TypeError):
        await caller.get(extensions={"timeout": {"read": "soon"}})

    assert (await caller.get()).status_code == 200


outcomes = st.sampled_from(("good", "failed", "slow", "both", "cancelled"))
probing = st.builds(
    lambda calls, **rest: breaker_policy(half_open_calls=calls, **rest),
    st.integers(1, 6),
    failure_rate=st.floats(0, 1),
    slow_call_rate=st.floats(0, 1),
    open_s=st.floats(0.1, 30),
)


def is_bad(policy: BreakerPolicy, said: tuple[str, ...]) -> bool:
    """Whether the thresholds are reached by a full set of answers."""
    failed = sum(each in ("failed", "both") for each in said)
    slow = sum(each in ("slow", "both") for each in said)
    calls = policy.half_open_calls
    return (failed > 0 and failed >= policy.failure_rate * calls) or (
        slow > 0 and slow >= policy.slow_call_rate * calls
    )


def verdict_on(policy: BreakerPolicy, said: list[str]) -> BreakerState:
    """What every way to go on agrees on; half open as long as they do not."""
    missing = policy.half_open_calls - len(said)
    ends = itertools.product(("good", "both"), repeat=missing)
    found = {is_bad(policy, (*said, *end)) for end in ends}
    if len(found) == 2:
        return BreakerState.HALF_OPEN
    return BreakerState.OPEN if found.pop() else BreakerState.CLOSED


class Probing:
    """A half-open breaker, its probes under way, and what was said of those that came back."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.clock = FakeClock()
        self.breaker = Breaker(breaker_policy(mode=BreakerMode.FORCED_OPEN), self.clock)
        self.breaker.retune(policy)
        self.under_way: list[Permit] = []
        self.said: list[str] = []

    @property
    def state(self) -> BreakerState:
        return self.breaker.state

    def send(self) -> None:
        permit = self.breaker.allow()
        if permit is not None:
            self.under_way.append(permit)

    def settle(self, which: int, outcome: str) -> None:
        permit = self.under_way.pop(which % len(self.under_way))
        if outcome == "cancelled":
            self.breaker.cancel(permit)
            return
        self.said.append(outcome)
        took_s = SLOW_S if outcome in ("slow", "both") else QUICK_S
        self.breaker.record(outcome in ("good", "slow"), took_s, permit)


happenings = st.one_of(
    st.tuples(st.just("send"), st.just(0), st.just("")),
    st.tuples(st.just("wait"), st.integers(0, 200), st.just("")),
    st.tuples(st.just("settle"), st.integers(0, 5), outcomes),
)


@given(probing, st.lists(happenings, max_size=60))
def test_the_verdict_is_that_of_the_answers_as_soon_as_they_settle_it(
    policy: BreakerPolicy, told: list[tuple[str, int, str]]
) -> None:
    probing = Probing(policy)

    for what, number, outcome in told:
        if what == "wait":
            probing.clock.advance(number)
        elif what == "settle" and probing.under_way:
            probing.settle(number, outcome)
        elif what == "send":
            probing.send()
        expected = verdict_on(policy, probing.said)
        assert probing.state is expected
        if expected is not BreakerState.HALF_OPEN:
            return


@given(probing, st.lists(outcomes, max_size=20), st.floats(0, 300), st.floats(0, 300))
def test_one_probe_at_a_time_always_ends_in_a_verdict(
    policy: BreakerPolicy, lost_or_cancelled: list[str], apart_s: float, took_s: float
) -> None:
    probing = Probing(policy)

    for outcome in lost_or_cancelled:
        probing.send()
        if outcome == "cancelled" and probing.under_way:
            probing.settle(0, outcome)  # the others never come back
    probing.clock.advance(30)
    for _ in range(policy.half_open_calls):
        permit = probing.breaker.allow()
        if permit is None:
            break
        probing.clock.advance(took_s)
        probing.breaker.record(True, QUICK_S, permit)
        probing.clock.advance(apart_s)

    assert probing.state is BreakerState.CLOSED

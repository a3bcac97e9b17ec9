from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.inbound import FakeClock
from tests.sdk.outbound import breaker_policy
from tidegate.breaker import Breaker, BreakerState, Permit, WindowCounts
from tidegate.outbound_policy import BreakerMode, BreakerPolicy, WindowKind, WindowPolicy


def call(breaker: Breaker, *, ok: bool, duration_s: float = 0.01) -> bool:
    """Make one call if it is allowed; says whether it was."""
    permit = breaker.allow()
    if permit is None:
        return False
    breaker.record(ok, duration_s, permit)
    return True


def state_of(breaker: Breaker) -> BreakerState:
    return breaker.state


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        call(breaker, ok=False)


def test_it_opens_when_enough_calls_failed_and_not_before() -> None:
    breaker = Breaker(breaker_policy(min_calls=4, failure_rate=0.5), FakeClock())

    fail(breaker, 3)
    assert state_of(breaker) is BreakerState.CLOSED

    call(breaker, ok=True)

    assert state_of(breaker) is BreakerState.OPEN
    assert not call(breaker, ok=True)


def test_slow_calls_open_it_although_they_succeed() -> None:
    breaker = Breaker(breaker_policy(slow_call_ms=500, slow_call_rate=0.8), FakeClock())

    for _ in range(4):
        call(breaker, ok=True, duration_s=0.5)

    assert state_of(breaker) is BreakerState.OPEN


def test_a_failure_rate_of_zero_opens_at_the_first_failure_never_on_successes() -> None:
    breaker = Breaker(breaker_policy(failure_rate=0.0, slow_call_rate=0.0), FakeClock())

    for _ in range(10):
        call(breaker, ok=True)
    assert state_of(breaker) is BreakerState.CLOSED

    call(breaker, ok=False)
    assert state_of(breaker) is BreakerState.OPEN


def test_after_open_s_it_probes_with_a_bounded_number_of_calls() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(open_s=15, half_open_calls=2), clock)
    fail(breaker, 4)

    clock.advance(14.9)
    assert breaker.allow() is None
    assert breaker.retry_after_s == pytest.approx(0.1)

    clock.advance(0.1)
    assert state_of(breaker) is BreakerState.HALF_OPEN
    assert [breaker.allow() is not None for _ in range(5)] == [True, True, False, False, False]


def test_it_closes_when_all_probes_passed_and_starts_with_an_empty_window() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(open_s=15, half_open_calls=2), clock)
    fail(breaker, 4)
    clock.advance(15)

    call(breaker, ok=True)
    assert state_of(breaker) is BreakerState.HALF_OPEN
    call(breaker, ok=True)

    assert state_of(breaker) is BreakerState.CLOSED
    assert breaker.counts() == WindowCounts(0, 0, 0)


def test_it_reopens_as_soon_as_the_probes_cannot_pass_any_more() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(open_s=15, half_open_calls=10, failure_rate=0.2), clock)
    fail(breaker, 4)
    clock.advance(15)

    fail(breaker, 2)

    assert state_of(breaker) is BreakerState.OPEN
    assert breaker.retry_after_s == pytest.approx(15)


def test_a_call_from_before_the_breaker_opened_does_not_judge_the_probes() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(half_open_calls=1), clock)
    late = breaker.allow()
    fail(breaker, 4)
    clock.advance(15)
    probe = breaker.allow()
    assert late is not None
    assert probe is not None

    breaker.record(False, 20.0, late)
    assert state_of(breaker) is BreakerState.HALF_OPEN

    breaker.record(True, 0.01, probe)
    assert state_of(breaker) is BreakerState.CLOSED


def test_a_cancelled_probe_gives_its_place_back() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(half_open_calls=1), clock)
    fail(breaker, 4)
    clock.advance(15)
    probe = breaker.allow()
    assert probe is not None
    assert breaker.allow() is None

    breaker.cancel(probe)

    assert breaker.allow() is not None


def test_probes_that_never_come_back_do_not_hold_it_half_open_for_ever() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(open_s=15, half_open_calls=2), clock)
    fail(breaker, 4)
    clock.advance(15)
    assert [breaker.allow() is not None for _ in range(3)] == [True, True, False]

    clock.advance(15)

    assert breaker.allow() is not None


def test_a_time_window_forgets_what_is_older() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(kind=WindowKind.TIME, size=10), clock)
    fail(breaker, 3)

    clock.advance(10.5)
    call(breaker, ok=False)

    assert breaker.counts() == WindowCounts(1, 1, 0)
    assert state_of(breaker) is BreakerState.CLOSED


def test_a_count_window_forgets_the_oldest_calls() -> None:
    breaker = Breaker(breaker_policy(size=5, min_calls=5, failure_rate=0.9), FakeClock())
    fail(breaker, 4)
    for _ in range(4):
        call(breaker, ok=True)

    assert breaker.counts() == WindowCounts(5, 1, 0)


def test_more_min_calls_than_a_count_window_holds_means_a_full_window() -> None:
    breaker = Breaker(breaker_policy(size=5, min_calls=50), FakeClock())

    fail(breaker, 5)

    assert state_of(breaker) is BreakerState.OPEN


@pytest.mark.parametrize(
    ("mode", "allows"), [(BreakerMode.FORCED_OPEN, False), (BreakerMode.DISABLED, True)]
)
def test_a_forced_mode_decides_whatever_the_window_says(mode: BreakerMode, allows: bool) -> None:
    breaker = Breaker(breaker_policy(), FakeClock())
    fail(breaker, 2)

    breaker.retune(breaker_policy(mode=mode))
    for _ in range(10):
        assert call(breaker, ok=False) is allows

    assert breaker.state == mode.value


def test_shadow_goes_through_its_states_and_lets_every_call_through() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(mode=BreakerMode.SHADOW), clock)
    fail(breaker, 4)
    assert state_of(breaker) is BreakerState.OPEN

    permit = breaker.allow()
    assert permit is not None
    assert breaker.would_reject(permit)
    breaker.record(True, 0.01, permit)
    assert state_of(breaker) is BreakerState.OPEN

    clock.advance(15)
    call(breaker, ok=True)
    call(breaker, ok=True)
    assert state_of(breaker) is BreakerState.CLOSED


def test_leaving_forced_open_probes_before_it_trusts() -> None:
    breaker = Breaker(breaker_policy(mode=BreakerMode.FORCED_OPEN), FakeClock())

    breaker.retune(breaker_policy(half_open_calls=2))

    assert state_of(breaker) is BreakerState.HALF_OPEN
    call(breaker, ok=True)
    call(breaker, ok=True)
    assert state_of(breaker) is BreakerState.CLOSED


def test_disabled_keeps_counting_so_enabling_finds_a_full_window() -> None:
    breaker = Breaker(breaker_policy(mode=BreakerMode.DISABLED), FakeClock())
    fail(breaker, 6)

    breaker.retune(breaker_policy())
    call(breaker, ok=False)

    assert state_of(breaker) is BreakerState.OPEN


def test_retuning_keeps_the_window() -> None:
    breaker = Breaker(breaker_policy(failure_rate=0.9, min_calls=10), FakeClock())
    fail(breaker, 3)
    call(breaker, ok=True)

    breaker.retune(breaker_policy(failure_rate=0.5, min_calls=5))
    assert breaker.counts() == WindowCounts(4, 3, 0)

    call(breaker, ok=False)
    assert state_of(breaker) is BreakerState.OPEN


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (WindowPolicy(WindowKind.COUNT, 10), WindowPolicy(WindowKind.COUNT, 20), 8),
        (WindowPolicy(WindowKind.COUNT, 10), WindowPolicy(WindowKind.COUNT, 4), 4),
        (WindowPolicy(WindowKind.TIME, 30), WindowPolicy(WindowKind.TIME, 60), 8),
        (WindowPolicy(WindowKind.TIME, 30), WindowPolicy(WindowKind.TIME, 10), 4),
        (WindowPolicy(WindowKind.TIME, 30), WindowPolicy(WindowKind.COUNT, 100), 8),
        (WindowPolicy(WindowKind.TIME, 30), WindowPolicy(WindowKind.COUNT, 6), 6),
        (WindowPolicy(WindowKind.COUNT, 10), WindowPolicy(WindowKind.TIME, 60), 8),
        (WindowPolicy(WindowKind.COUNT, 10), WindowPolicy(WindowKind.TIME, 10), 4),
    ],
    ids=lambda window: f"{window.kind}-{window.size}" if isinstance(window, WindowPolicy) else "",
)
def test_a_resized_window_keeps_what_still_fits(
    before: WindowPolicy, after: WindowPolicy, kept: int
) -> None:
    clock = FakeClock()
    policy = breaker_policy(min_calls=1000)
    breaker = Breaker(dataclasses.replace(policy, window=before), clock)
    for _ in range(2):  # four calls, half of them failed; then four more twelve seconds later
        for ok in (True, False, True, False):
            call(breaker, ok=ok)
        clock.advance(12)
    clock.advance(-10)

    breaker.retune(dataclasses.replace(policy, window=after))

    counts = breaker.counts()
    assert counts.calls == kept
    assert counts.failures == kept // 2


def test_retuning_open_s_moves_the_end_of_an_open_breaker() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(open_s=60), clock)
    fail(breaker, 4)
    clock.advance(5)

    breaker.retune(breaker_policy(open_s=5))

    assert state_of(breaker) is BreakerState.HALF_OPEN


def test_fewer_probes_than_already_passed_close_it_at_once() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(half_open_calls=5), clock)
    fail(breaker, 4)
    clock.advance(15)
    call(breaker, ok=True)
    call(breaker, ok=True)

    breaker.retune(breaker_policy(half_open_calls=2))

    assert state_of(breaker) is BreakerState.CLOSED


def test_changes_of_state_are_announced() -> None:
    clock = FakeClock()
    seen: list[BreakerState] = []
    breaker = Breaker(breaker_policy(half_open_calls=1), clock, on_transition=seen.append)

    fail(breaker, 4)
    clock.advance(15)
    call(breaker, ok=True)

    assert seen == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]


windows = st.builds(WindowPolicy, st.sampled_from(WindowKind), st.integers(1, 40))
policies = st.builds(
    lambda window, mode, **rest: breaker_policy(
        kind=window.kind, size=window.size, mode=mode, **rest
    ),
    windows,
    st.sampled_from(BreakerMode),
    min_calls=st.integers(1, 30),
    failure_rate=st.floats(0, 1),
    open_s=st.floats(0, 30),
    half_open_calls=st.integers(1, 5),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.floats(0, 20)),
        st.tuples(st.just("start"), st.none()),
        st.tuples(st.just("finish"), st.booleans()),
        st.tuples(st.just("retune"), policies),
    ),
    max_size=80,
)


Happening = tuple[str, Any]


class Story:
    """A breaker to which things happen, checked after each."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.clock = FakeClock()
        self.breaker = Breaker(policy, self.clock)
        self.running: list[Permit] = []
        self.probes = 0  # since anything but another start happened

    def tell(self, what: str, value: Any) -> None:
        if what == "start":
            self._start()
            return
        self.probes = 0
        if what == "advance":
            self.clock.advance(value)
        elif what == "retune":
            self.breaker.retune(value)
        elif self.running:
            self.breaker.record(value, 0.01, self.running.pop())

    def _start(self) -> None:
        state, mode = self.breaker.state, self.breaker.policy.mode
        permit = self.breaker.allow()
        if mode in (BreakerMode.SHADOW, BreakerMode.DISABLED):
            assert permit is not None
        elif state in (BreakerState.OPEN, BreakerState.FORCED_OPEN):
            assert permit is None
        elif state is BreakerState.HALF_OPEN:
            self.probes += permit is not None
            assert self.probes <= self.breaker.policy.half_open_calls
        if permit is not None:
            self.running.append(permit)


@given(policies, steps)
def test_whatever_happens_probes_and_window_stay_bounded(
    policy: BreakerPolicy, happenings: list[Happening]
) -> None:
    story = Story(policy)

    for what, value in happenings:
        story.tell(what, value)

        counts = story.breaker.counts()
        window = story.breaker.policy.window
        assert 0 <= counts.failures <= counts.calls
        assert window.kind is WindowKind.TIME or counts.calls <= window.size


@given(policies, st.floats(0, 100))
def test_an_open_breaker_always_recovers_when_the_dependency_does(
    policy: BreakerPolicy, waited_s: float
) -> None:
    clock = FakeClock()
    breaker = Breaker(dataclasses.replace(policy, mode=BreakerMode.AUTO), clock)
    fail(breaker, 100)
    clock.advance(waited_s + policy.open_s)

    for _ in range(200):
        call(breaker, ok=True)

    assert state_of(breaker) is BreakerState.CLOSED

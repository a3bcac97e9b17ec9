"""A circuit breaker per dependency: stop calls that will fail anyway, probe, and resume.

Thread-safe, without asyncio, constant time per call; services and the control plane both use it.
A call is `permit = breaker.allow()`, then exactly one of `record` and `cancel` with that permit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from tidegate.clock import Clock, monotonic_s
from tidegate.forks import renew_in_children
from tidegate.outbound_policy import BreakerMode, BreakerPolicy, WindowKind, WindowPolicy
from tidegate.windows import CountWindow, Window, count_window_of, time_window_of

Permit = NewType("Permit", int)

# Older than any, so the calls of a shadow breaker that is open count for nothing.
_SHADOW_PERMIT = Permit(-1)

# A probe that is under way for this long, or for open_s if that is more, may be lost.
_SHORTEST_PATIENCE_S = 1.0

_KINDS = 4
_FAILED = 1  # bits of a call's kind in the window
_SLOW = 2


class BreakerState(StrEnum):
    """What a breaker does with the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """What a breaker has seen in its window; a call may be both failed and slow."""

    calls: int
    failures: int
    slow: int


class Breaker:
    """Decides whether calls to one dependency may be sent.

    In `shadow` it goes through its states and lets every call through; in `disabled` it keeps
    counting, so that it is not blind when enabled again. Half open, it sends `half_open_calls`
    probes, in its own time, and decides as soon as no answer could change what they say.
    """

    def __init__(
        self,
        policy: BreakerPolicy,
        clock: Clock = monotonic_s,
        *,
        on_transition: Callable[[BreakerState], None] | None = None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._on_transition = on_transition
        self._lock = threading.RLock()  # on_transition is called under it, and may read state
        self._window = _window_of(policy.window, [], clock())
        # Permits are numbered, and each change of state starts with a new one: a call admitted
        # before it may not judge the probes of after it.
        self._first_permit = self._last_permit = 1
        self._state = BreakerState.CLOSED
        self._since_s = clock()
        self._under_way: dict[Permit, float] = {}  # probes and when they were let go, oldest first
        self._probes = [0] * _KINDS
        self._reported = self._state_at(self._since_s)
        renew_in_children(self)

    @property
    def policy(self) -> BreakerPolicy:
        """The policy in force."""
        return self._policy

    @property
    def state(self) -> BreakerState:
        """The state the next call would meet; `half_open` as soon as `open_s` is over."""
        with self._lock:
            return self._state_at(self._clock())

    @property
    def retry_after_s(self) -> float:
        """How long the breaker stays open at least; 0 when it is not open."""
        with self._lock:
            if self._state is not BreakerState.OPEN:
                return 0.0
            return max(0.0, self._since_s + self._policy.open_s - self._clock())

    def counts(self) -> WindowCounts:
        """What the window holds now."""
        with self._lock:
            self._window.expire(self._clock())
            return _counts(self._window.totals)

    def allow(self) -> Permit | None:
        """A permit (truthy) if a call may be sent now, else None.

        In `shadow` there is always a permit; `would_reject` says what auto would have done.
        """
        with self._lock:
            mode = self._policy.mode
            if mode is BreakerMode.FORCED_OPEN:
                return None
            if self._state is BreakerState.CLOSED:
                return Permit(self._first_permit)
            permit = self._admit_probe(self._clock())
            if permit is None and mode is BreakerMode.SHADOW:
                return _SHADOW_PERMIT
            return permit

    @staticmethod
    def would_reject(permit: Permit) -> bool:
        """Whether only shadow mode let this call through."""
        return permit == _SHADOW_PERMIT

    def record(self, ok: bool, duration_s: float, permit: Permit | None = None) -> None:
        """Count a finished call; may open or close the breaker.

        Without a permit the call is taken to have been admitted in the present state.
        A call admitted before the last change of state counts for nothing.
        """
        with self._lock:
            if permit is not None and permit < self._first_permit:
                return
            kind = 0 if ok else _FAILED
            if duration_s * 1000.0 >= self._policy.slow_call_ms:
                kind |= _SLOW
            now_s = self._clock()
            if self._state is BreakerState.CLOSED:
                self._window.add(kind, now_s)
                self._judge_window(now_s)
            elif self._state is BreakerState.HALF_OPEN:
                self._take_back(permit)
                self._probes[kind] += 1
                self._judge_probes(now_s)

    def cancel(self, permit: Permit) -> None:
        """Give a permit back for a call that says nothing about the dependency."""
        with self._lock:
            self._take_back(permit)

    def retune(self, policy: BreakerPolicy) -> None:
        """Obey `policy` from now on, keeping state and what the window knows.

        A breaker that leaves `forced_open` probes before it trusts.
        """
        with self._lock:
            old, now_s = self._policy, self._clock()
            if policy == old:
                return
            self._policy = policy
            if policy.window != old.window:
                self._window.expire(now_s)
                self._window = _window_of(policy.window, self._window.history(), now_s)
            if policy.mode is BreakerMode.DISABLED:
                self._enter(BreakerState.CLOSED, now_s)
            elif old.mode is BreakerMode.FORCED_OPEN and policy.mode is not old.mode:
                self._enter(BreakerState.HALF_OPEN, now_s)
            elif self._state is BreakerState.HALF_OPEN:
                self._judge_probes(now_s)
            self._report(now_s)

    def renew_after_fork(self) -> None:
        """Free the lock in a forked child; what was counted stays counted.

        The probes under way are the parent's, and come back there.
        """
        self._lock = threading.RLock()
        self._under_way = {}

    def _state_at(self, now_s: float) -> BreakerState:
        if self._policy.mode is BreakerMode.FORCED_OPEN:
            return BreakerState.FORCED_OPEN
        if self._policy.mode is BreakerMode.DISABLED:
            return BreakerState.DISABLED
        if self._state is BreakerState.OPEN and now_s >= self._since_s + self._policy.open_s:
            return BreakerState.HALF_OPEN
        return self._state

    def _admit_probe(self, now_s: float) -> Permit | None:
        """A permit if an open or half-open breaker lets this call probe, else None."""
        if self._state is BreakerState.OPEN:
            if now_s < self._since_s + self._policy.open_s:
                return None
            self._enter(BreakerState.HALF_OPEN, now_s)
        elif len(self._under_way) + sum(self._probes) >= self._policy.half_open_calls:
            # A probe whose caller never came back must not hold the breaker half open for ever.
            # It may be slow instead: then its answer still counts, like that of the one let go
            # in its place.
            longest = next(iter(self._under_way), None)
            patience_s = max(self._policy.open_s, _SHORTEST_PATIENCE_S)
            if longest is None or now_s < self._under_way[longest] + patience_s:
                return None
            del self._under_way[longest]
        self._last_permit += 1
        permit = Permit(self._last_permit)
        self._under_way[permit] = now_s
        return permit

    def _take_back(self, permit: Permit | None) -> None:
        """Free the place of a probe; without a permit, that of the longest under way."""
        if permit is None:
            permit = next(iter(self._under_way), None)
        if permit is not None:
            self._under_way.pop(permit, None)

    def _judge_window(self, now_s: float) -> None:
        totals = self._window.totals
        if totals[0] == sum(totals) or self._policy.mode is BreakerMode.DISABLED:
            return
        counts = _counts(totals)
        needed = self._policy.min_calls
        if isinstance(self._window, CountWindow):
            needed = min(needed, self._window.size)
        if counts.calls >= needed and self._fails(counts, counts.calls):
            self._enter(BreakerState.OPEN, now_s)

    def _judge_probes(self, now_s: float) -> None:
        """Open or close as soon as the answers that are missing cannot change the verdict."""
        counts, wanted = _counts(self._probes), self._policy.half_open_calls
        missing = max(0, wanted - counts.calls)
        worst = WindowCounts(
            counts.calls + missing, counts.failures + missing, counts.slow + missing
        )
        if self._fails(counts, wanted):
            self._enter(BreakerState.OPEN, now_s)
        elif not self._fails(worst, wanted):
            self._window.clear()
            self._enter(BreakerState.CLOSED, now_s)

    def _fails(self, counts: WindowCounts, of_calls: int) -> bool:
        policy = self._policy
        return (counts.failures > 0 and counts.failures >= policy.failure_rate * of_calls) or (
            counts.slow > 0 and counts.slow >= policy.slow_call_rate * of_calls
        )

    def _enter(self, state: BreakerState, now_s: float) -> None:
        self._state = state
        self._since_s = now_s
        self._last_permit += 1
        self._first_permit = self._last_permit
        self._under_way = {}
        self._probes = [0] * _KINDS
        self._report(now_s)

    def _report(self, now_s: float) -> None:
        state = self._state_at(now_s)
        if state is not self._reported:
            self._reported = state
            if self._on_transition is not None:
                self._on_transition(state)


def _window_of(
    policy: WindowPolicy, history: list[tuple[float, list[int]]], now_s: float
) -> Window:
    if policy.kind is WindowKind.COUNT:
        return count_window_of(history, policy.size, _KINDS)
    return time_window_of(history, policy.size, _KINDS, now_s)


def _counts(totals: list[int]) -> WindowCounts:
    _, failed, slow, both = totals
    return WindowCounts(failed + slow + both + totals[0], failed + both, slow + both)

"""Everything one process keeps about one dependency: policy, breaker, budget and counters.

Shared by every transport of the process that calls it, so that they see one breaker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

from tidegate.breaker import Breaker, BreakerState
from tidegate.budget import RetryBudget
from tidegate.clock import Clock, monotonic_s
from tidegate.forks import renew_in_children
from tidegate.metrics import Metrics
from tidegate.policy import DependencyPolicy, Policy
from tidegate.series import Count


class PolicySource(Protocol):
    """Where protections take their policy from: a `PolicyClient`, or a `FixedPolicy`."""

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        ...

    @property
    def metrics(self) -> Metrics:
        """Where this process counts."""
        ...

    def subscribe(self, callback: Callable[[Policy], None]) -> None:
        """Have `callback` called with each new policy, before it counts as applied."""
        ...


class FixedPolicy:
    """A policy that comes from code: for tests, and for protections without a control plane."""

    def __init__(self, policy: Policy, metrics: Metrics | None = None) -> None:
        self._policy = policy
        self._metrics = Metrics() if metrics is None else metrics
        self._subscribers: list[Callable[[Policy], None]] = []

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    @property
    def metrics(self) -> Metrics:
        """Where this process counts."""
        return self._metrics

    @property
    def sequence(self) -> int | None:
        """None: nothing was published."""
        return None

    @property
    def age_s(self) -> float | None:
        """None: no control plane confirms it."""
        return None

    def subscribe(self, callback: Callable[[Policy], None]) -> None:
        """Have `callback` called with each new policy."""
        self._subscribers.append(callback)

    def change(self, policy: Policy) -> None:
        """Put another policy in force, in place."""
        self._policy = policy
        for callback in self._subscribers:
            callback(policy)


class Dependency:
    """One dependency of this process, re-tuned in place when the policy changes."""

    def __init__(
        self, name: str, policy: DependencyPolicy, metrics: Metrics, clock: Clock = monotonic_s
    ) -> None:
        self.name = name
        self.policy = policy
        self.clock = clock
        self.breaker = Breaker(policy.breaker, clock)
        self.budget = RetryBudget(policy.retry.budget, clock)
        self.lock = threading.Lock()  # over the counters, for callers in several threads
        self.attempt_duration = metrics.client_attempt_duration.child(name)
        self.budget_exhausted = metrics.retry_budget_exhausted.child(name)
        self._metrics = metrics
        self._requests: dict[str, Count] = {}
        self._attempts: dict[str, Count] = {}
        self._breaker_calls: dict[str, Count] = {}
        # Born at zero, so that the first failure shows as an increase.
        for outcome in ("success", "error", "timeout", "connect_error"):
            self.count_request(outcome, 0)
            self.count_attempt(outcome, 0)
        for outcome in ("success", "failure", "slow", "rejected"):
            self.count_breaker_call(outcome, 0)
        for state in BreakerState:
            metrics.breaker_state.child(name, state.value).read_with(self._is_in(state))
        renew_in_children(self)

    def retune(self, policy: DependencyPolicy) -> None:
        """Obey `policy` from now on; windows keep what they know."""
        self.policy = policy
        self.breaker.retune(policy.breaker)
        self.budget.retune(policy.retry.budget)

    def renew_after_fork(self) -> None:
        """Free the lock in a forked child."""
        self.lock = threading.Lock()

    def count_request(self, outcome: str, amount: int = 1) -> None:
        """Count a finished request, however many attempts it took."""
        series = self._requests.get(outcome)
        if series is None:
            series = self._metrics.client_requests.child(self.name, outcome)
            self._requests[outcome] = series
        series.add(amount)

    def count_attempt(self, outcome: str, amount: int = 1) -> None:
        """Count one attempt that was sent."""
        series = self._attempts.get(outcome)
        if series is None:
            series = self._metrics.client_attempts.child(self.name, outcome)
            self._attempts[outcome] = series
        series.add(amount)

    def count_breaker_call(self, outcome: str, amount: int = 1) -> None:
        """Count one call as the breaker saw it."""
        series = self._breaker_calls.get(outcome)
        if series is None:
            series = self._metrics.breaker_calls.child(self.name, outcome)
            self._breaker_calls[outcome] = series
        series.add(amount)

    def _is_in(self, state: BreakerState) -> Callable[[], float]:
        return lambda: float(self.breaker.state is state)


class _Known:
    """The dependencies of each source by name, and the lock over making them."""

    def __init__(self) -> None:
        self.making = threading.Lock()
        self.by_source: WeakKeyDictionary[PolicySource, dict[str, Dependency]] = WeakKeyDictionary()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        self.making = threading.Lock()


_known = _Known()


def dependency_of(source: PolicySource, name: str, clock: Clock = monotonic_s) -> Dependency:
    """The dependency of this name that all transports of `source` share; made on first use."""
    with _known.making:
        dependencies = _known.by_source.setdefault(source, {})
        if name not in dependencies:
            made = Dependency(name, source.policy.outbound.dependency(name), source.metrics, clock)
            source.subscribe(lambda policy: made.retune(policy.outbound.dependency(name)))
            dependencies[name] = made
        return dependencies[name]

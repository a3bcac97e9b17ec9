"""A retry budget: retries may add a bounded share to the requests, and no more.

Thread-safe, without asyncio, constant time per call. Per instance, like every limit of the SDK.
"""

from __future__ import annotations

import threading

from tidegate.clock import Clock, monotonic_s
from tidegate.forks import renew_in_children
from tidegate.outbound_policy import BudgetPolicy
from tidegate.windows import TimeWindow

_REQUEST = 0
_RETRY = 1


class RetryBudget:
    """Lets a retry through while, over the last `window_s`, retries stay within bounds.

    The bound is `ratio` of the requests, or `min_per_s` for each second of the window if that
    is more: the floor lets a service with little traffic retry at all.
    """

    def __init__(self, policy: BudgetPolicy, clock: Clock = monotonic_s) -> None:
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._window = TimeWindow(policy.window_s, 2, clock())
        renew_in_children(self)

    @property
    def policy(self) -> BudgetPolicy:
        """The policy in force."""
        return self._policy

    def record_request(self) -> None:
        """Count one request (not its retries), which earns `ratio` of a retry."""
        with self._lock:
            self._window.add(_REQUEST, self._clock())

    def spend(self) -> bool:
        """Take one retry from the budget; False, and nothing taken, when it is exhausted."""
        with self._lock:
            now_s = self._clock()
            self._window.expire(now_s)
            if self._window.totals[_RETRY] + 1 > self._allowed():
                return False
            self._window.add(_RETRY, now_s)
            return True

    def remaining(self) -> float:
        """How many retries may still be made now; below 0 after a retune to less."""
        with self._lock:
            self._window.expire(self._clock())
            return self._allowed() - self._window.totals[_RETRY]

    def retune(self, policy: BudgetPolicy) -> None:
        """Obey `policy` from now on; requests and retries already counted stay counted."""
        with self._lock:
            if policy.window_s != self._policy.window_s:
                now_s = self._clock()
                self._window.expire(now_s)
                self._window = self._window.resized(policy.window_s, now_s)
            self._policy = policy

    def renew_after_fork(self) -> None:
        """Free the lock in a forked child; what was counted stays counted."""
        self._lock = threading.Lock()

    def _allowed(self) -> float:
        policy = self._policy
        earned = policy.ratio * self._window.totals[_REQUEST]
        return max(earned, policy.min_per_s * policy.window_s)

"""Counters of attempts to sign in: shared by all processes, and kept in each of them as well."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import structlog
from django.core.cache import cache
from redis.exceptions import RedisError

from controlplane.kernel.clock import monotonic_s

REST_S = 5.0  # after a failure: a dead cache costs one attempt its timeout, not each of them
logger = structlog.get_logger(__name__)


class OwnCounts:
    """Counters of this process, for one window; those of the window before are forgotten."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._window = 0
        self._counts: dict[str, int] = {}

    def add(self, key: str, amount: int) -> int:
        """Add to a counter, which begins at 0; return what it is now, never less than 0."""
        window = int(key.split(":")[2])
        with self._lock:
            if window < self._window:
                return max(0, amount)  # begun before the present window, which it must not end
            if window > self._window:
                self._window, self._counts = window, {}
            count = max(0, self._counts.get(key, 0) + amount)
            self._counts[key] = count
            return count

    def forget(self) -> None:
        """Start again, as a new process does."""
        with self._lock:
            self._window, self._counts = 0, {}


class SignInCounts:
    """Counts in the shared cache and in this process; the higher of the two is what counts.

    So a cache that is away, or comes back empty, neither lets everything through nor nothing:
    each process goes on from what it has seen itself.
    """

    def __init__(self, clock: Callable[[], float] = monotonic_s) -> None:
        self._own = OwnCounts()
        self._clock = clock
        self._rests_until_s = 0.0

    def take(self, key: str, *, keep_s: int) -> int:
        """Count one attempt and return how many there are now, this one among them."""
        return max(self._own.add(key, 1), self._shared(key, 1, keep_s))

    def give_back(self, key: str, *, keep_s: int) -> None:
        """Take one attempt back: its password was right, or was not looked at."""
        self._own.add(key, -1)
        self._shared(key, -1, keep_s)

    def forget(self) -> None:
        """Start again, as a new process does."""
        self._own.forget()
        self._rests_until_s = 0.0

    def _shared(self, key: str, amount: int, keep_s: int) -> int:
        if self._clock() < self._rests_until_s:
            return 0
        try:
            cache.add(key, 0, timeout=keep_s)
            return int(cache.incr(key, amount))
        except ValueError:
            return 0  # the cache is full, and dropped it at once
        except (RedisError, OSError) as error:
            self._rests_until_s = self._clock() + REST_S
            logger.warning("sign_in.counted_alone", error=type(error).__name__)
            return 0


COUNTS = SignInCounts()

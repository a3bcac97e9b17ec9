"""Time as the SDK sees it: monotonic seconds for durations, the server's clock for schedules.

Everything that measures or waits takes a `Clock`, so tests move time by hand.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from tidegate.forks import renew_in_children

log = logging.getLogger("tidegate")

Clock = Callable[[], float]

MAX_SILENT_SKEW_S = 2.0

# `Date` has whole seconds, and servers such as uvicorn refresh it once a second:
# when it says t, the server's clock read somewhere in [t, t + 2).
_DATE_RESOLUTION_S = 2.0


def monotonic_s() -> float:
    """Seconds that never go back; only differences mean something."""
    return time.monotonic()


def wall_s() -> float:
    """Seconds since 1970 by this machine's clock, which may be wrong or stepped."""
    return time.time()


def elapsed_s() -> float:
    """Seconds since boot, suspended time included where the platform can tell.

    A policy that ends at noon must have ended when a machine wakes at one.
    """
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_clock is None else time.clock_gettime(boot_clock)


def parse_http_date(text: str) -> float | None:
    """The instant an HTTP date names, in seconds since 1970; None when it is not a date."""
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


class ServerClock:
    """The control plane's clock, estimated from the `Date` headers of its answers.

    Until the first answer it is this machine's clock plus the skew remembered from the last
    run. After one it advances with elapsed time, so stepping this machine's clock changes nothing.
    """

    def __init__(
        self, *, wall: Clock = wall_s, elapsed: Clock = elapsed_s, skew_s: float = 0.0
    ) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._remembered_skew_s = skew_s
        self._bounds: tuple[float, float] | None = None
        self._offset_s = 0.0
        self._is_skewed = False
        self._lock = threading.Lock()
        renew_in_children(self)

    def now_s(self) -> float:
        """Seconds since 1970 by the server's clock, as well as this process can tell."""
        if self._bounds is None:
            return self._wall() + self._remembered_skew_s
        return self._elapsed() + self._offset_s

    @property
    def skew_s(self) -> float:
        """How far the server's clock is ahead of this machine's (negative: behind)."""
        return self.now_s() - self._wall()

    def remember_skew(self, skew_s: float) -> None:
        """Start from the skew of an earlier run; any answer of the server replaces it."""
        self._remembered_skew_s = skew_s

    def warn_of_skew(self) -> None:
        """Say that this machine's clock is wrong, once for each time that it becomes so."""
        skew_s = self.skew_s
        is_skewed = abs(skew_s) > MAX_SILENT_SKEW_S
        if is_skewed and not self._is_skewed:
            log.warning(
                "this machine's clock is %.1f s %s the control plane's, which schedules follow",
                abs(skew_s),
                "behind" if skew_s > 0 else "ahead of",
            )
        self._is_skewed = is_skewed

    def elapsed_s(self) -> float:
        """The instant to hand to `observe` as `sent_s` before asking the server."""
        return self._elapsed()

    def observe(self, date: str | None, *, sent_s: float) -> None:
        """Learn from the `Date` header of an answer to a request sent at `sent_s`.

        Each answer bounds the offset; bounds of successive answers are intersected, so the
        estimate sharpens. Bounds that contradict the past mean a clock was set: the past goes.
        """
        server_s = None if date is None else parse_http_date(date)
        if server_s is None:
            return
        received_s = self._elapsed()
        low, high = server_s - received_s, server_s + _DATE_RESOLUTION_S - sent_s
        with self._lock:
            if self._bounds is not None:
                kept_low, kept_high = max(low, self._bounds[0]), min(high, self._bounds[1])
                if kept_low <= kept_high:
                    low, high = kept_low, kept_high
            # A local clock that the answers do not contradict is better than their middle.
            local = self._wall() - received_s
            self._offset_s = local if low <= local <= high else (low + high) / 2
            self._bounds = (low, high)

    def renew_after_fork(self) -> None:
        """Free the lock in a forked child; what was learned stays learned."""
        self._lock = threading.Lock()

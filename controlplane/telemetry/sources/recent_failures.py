"""Queries that have just failed, which are not asked again for a moment."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from controlplane.telemetry.sources.port import QueryFailed
from tidegate.clock import Clock

MOST = 500  # questions remembered; the oldest go first


class RecentFailures:
    """Remembers which questions got no answer, for `rest_s` each. Safe to use from many threads."""

    def __init__(self, rest_s: float, clock: Clock) -> None:
        self._rest_s = rest_s
        self._clock = clock
        self._lock = Lock()
        self._failed: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def note(self, question: str, reason: str) -> None:
        """Remember that a question got no answer."""
        with self._lock:
            self._failed.pop(question, None)
            self._failed[question] = (self._clock() + self._rest_s, reason)
            while len(self._failed) > MOST:
                self._failed.popitem(last=False)

    def check(self, question: str) -> None:
        """Return if a question may be asked.

        Raises:
            QueryFailed: it got no answer a moment ago; the sentence says why.
        """
        with self._lock:
            until_s, reason = self._failed.get(question, (0.0, ""))
            left_s = until_s - self._clock()
            if not reason or left_s <= 0:
                self._failed.pop(question, None)
                return
        raise QueryFailed(reason + "; it is not asked again yet", retry_after_s=max(1.0, left_s))

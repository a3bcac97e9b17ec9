"""A queue of its own for hashing passwords: the dearest thing a stranger can ask for.

A hash takes a quarter of a second of a processor. The process that checks it delivers policies as
well, so few are worked on at a time, few wait, and the rest are told at once to come back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Semaphore

from django.conf import settings

from controlplane.kernel.errors import Unavailable
from controlplane.kernel.instruments import counter, gauge

WAIT_S = 5.0  # nobody looks at a sign-in page for longer than that: what waited so long is dropped
RETRY_AFTER_S = 5.0
_REFUSED = counter(
    "tidegate_access_password_checks_refused_total", "Passwords not checked: the queue was full."
)
_INSIDE = gauge(
    "tidegate_access_password_checks_in_progress", "Passwords being checked, or waiting for it."
)


class PasswordQueue:
    """Lets `at_once` threads hash at a time, and `waiting` more wait for at most `wait_s`."""

    def __init__(self, *, at_once: int, waiting: int, wait_s: float = WAIT_S) -> None:
        self._places = at_once + waiting
        self._wait_s = wait_s
        self._lock = Lock()
        self._free = Semaphore(at_once)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a turn while the block runs.

        Raises:
            Unavailable: the queue is full, or the turn did not come in time.
        """
        with self._lock:
            if self._places <= 0:
                raise _busy()
            self._places -= 1
        _INSIDE.inc()
        try:
            if not self._free.acquire(timeout=self._wait_s):
                raise _busy()
            try:
                yield
            finally:
                self._free.release()
        finally:
            _INSIDE.dec()
            with self._lock:
                self._places += 1


def _busy() -> Unavailable:
    _REFUSED.inc()
    return Unavailable(
        "Too many passwords are being checked just now. Yours was not; try again in "
        f"{RETRY_AFTER_S:g} seconds.",
        retry_after_s=RETRY_AFTER_S,
    )


PASSWORDS = PasswordQueue(
    at_once=settings.TIDEGATE.passwords_at_once, waiting=settings.TIDEGATE.passwords_waiting
)

"""Waking those who wait: only those concerned, and never so many that others wait for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

import structlog

SLICE_S = 0.004
"""How long answers are given in one turn of the event loop: so long anybody else waits."""
IN_A_ROW = 8
"""So many of one publication's waiters look before it is another's turn."""

logger = structlog.get_logger(__name__)


class Waiter(Protocol):
    """One parked poll or one stream."""

    instance: bytes | None

    def look(self) -> None:
        """Answer, or register with a lane again."""


class Waited(Protocol):
    """What one waits on: a lane."""

    waiters: dict[Waiter, None]


class Wakeups:
    """Lets waiters look again, a slice of time per turn of the event loop, in the order they came.

    Those of several publications take turns: the many who wait for one service keep nobody waiting
    who waits for another. A waiter leaves its lane's set when it is woken. Without a running event
    loop nobody waits.
    """

    def __init__(self) -> None:
        self._woken: deque[deque[Waiter]] = deque()
        self._is_scheduled = False

    @property
    def is_busy(self) -> bool:
        """True while some who were woken have not looked yet."""
        return bool(self._woken)

    def add(self, lane: Waited, only: Callable[[Waiter], bool] | None = None) -> None:
        """Wake who waits on `lane`, or those of them that `only` picks."""
        if only is None:
            woken, lane.waiters = lane.waiters, {}
        else:
            woken = {waiter: None for waiter in lane.waiters if only(waiter)}
            for waiter in woken:
                del lane.waiters[waiter]
        if woken:
            self._woken.append(deque(woken))
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._wake_some)

    def _wake_some(self) -> None:
        self._is_scheduled = False
        until_s = perf_counter() + SLICE_S
        while self._woken and perf_counter() < until_s:
            waiters = self._woken.popleft()
            for _ in range(min(IN_A_ROW, len(waiters))):
                try:
                    waiters.popleft().look()
                except Exception:
                    # One waiter's defect must not leave those behind it asleep.
                    logger.exception("waiter.failed")
            if waiters:
                self._woken.append(waiters)
        if self._woken:
            self._schedule()

"""How an instance leaves: first it says it is not ready, then it refuses, then it is empty."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from tidegate.policy import DrainPolicy


class Lifecycle:
    """Whether this instance wants traffic, and whether it still takes any."""

    __slots__ = ("_drained", "_wants_traffic", "inflight", "is_draining")

    def __init__(self) -> None:
        self.inflight = 0
        self.is_draining = False
        self._wants_traffic = True
        self._drained = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """What `/readyz` and `tidegate_ready` say."""
        return self._wants_traffic and not self.is_draining

    def set_ready(self, ready: bool) -> None:
        """Ask for traffic, or ask for none while still answering what comes."""
        self._wants_traffic = ready

    async def drain(
        self,
        policy: DrainPolicy,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> bool:
        """Leave: not ready for `not_ready_s`, then refuse, then wait for what is in flight.

        Call it on SIGTERM, before the server stops listening. Returns whether the instance was
        empty within `timeout_s`.
        """
        self._wants_traffic = False
        await sleep(policy.not_ready_s)
        self.is_draining = True
        if self.inflight == 0:
            return True
        try:
            async with asyncio.timeout(policy.timeout_s):
                await self._drained.wait()
        except TimeoutError:
            return False
        return True

    def left(self) -> None:
        """Note that one request is done; the last one ends the drain."""
        self.inflight -= 1
        if self.is_draining and self.inflight == 0:
            self._drained.set()


class ThreadLifecycle(Lifecycle):
    """The same for a service that works in threads; `lock` is held over every change."""

    __slots__ = ("_emptied", "_lock")

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__()
        self._lock = lock
        self._emptied = threading.Event()

    def renew(self, lock: threading.Lock, inflight: int) -> None:
        """Begin anew in a forked child, under another lock, with this much in flight."""
        self._lock = lock
        self._emptied = threading.Event()
        self.inflight = inflight

    def left(self) -> None:
        """Note that one request is done; the last one ends the drain."""
        super().left()
        if self.is_draining and self.inflight == 0:
            self._emptied.set()

    def drain_in_thread(
        self, policy: DrainPolicy, *, sleep: Callable[[float], object] = time.sleep
    ) -> bool:
        """As `drain`, blocking the thread that calls it."""
        self.set_ready(False)
        sleep(policy.not_ready_s)
        with self._lock:
            self.is_draining = True
            if self.inflight == 0:
                return True
        return self._emptied.wait(policy.timeout_s)

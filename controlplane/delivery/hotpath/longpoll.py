"""Holding a poll until its answer changes, its time is up, or its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum, auto
from typing import Any

from controlplane.delivery.hotpath.store import Slot

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_BODY_MESSAGES = 16


class Ended(Enum):
    """Why a parked poll stopped waiting."""

    CHANGED = auto()
    EXPIRED = auto()
    GONE = auto()


class _Parked:
    """One waiting poll: a future that a swap, a timer or a disconnect resolves."""

    __slots__ = ("ended", "loop", "waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ended: Ended | None = None
        self.waiter: asyncio.Future[None] = loop.create_future()

    def register(self, slot: Slot) -> None:
        if self.waiter.done():
            self.waiter = self.loop.create_future()
        slot.waiters.add(self.waiter)

    def end(self, reason: Ended) -> None:
        self.ended = self.ended or reason
        if not self.waiter.done():
            self.waiter.set_result(None)


async def hold(
    slot: Slot, is_changed: Callable[[], bool], wait_s: float, receive: Receive
) -> Ended:
    """Wait until `is_changed()`, at most `wait_s` seconds; return at once when it already is.

    It registers with the slot *before* it looks: a swap between the look and the wait would
    otherwise be slept through. `is_changed` is asked again whenever the slot wakes its waiters.
    """
    loop = asyncio.get_running_loop()
    parked = _Parked(loop)
    timer: asyncio.TimerHandle | None = None
    watcher: asyncio.Task[None] | None = None
    try:
        while parked.ended is None:
            parked.register(slot)
            if is_changed():
                return Ended.CHANGED
            if timer is None:
                timer = loop.call_later(wait_s, parked.end, Ended.EXPIRED)
                # Waiting on two futures at once doubles the price of a wake-up. This task only
                # speaks up when the client leaves and costs nothing when the slot changes: the
                # server ends its receive() once the answer is sent.
                watcher = loop.create_task(_watch(receive, parked))
            await parked.waiter
    except asyncio.CancelledError:
        if watcher is not None:
            watcher.cancel()
        raise
    finally:
        slot.waiters.discard(parked.waiter)
        if timer is not None:
            timer.cancel()
    return parked.ended


async def _watch(receive: Receive, parked: _Parked) -> None:
    for _ in range(MAX_BODY_MESSAGES):
        message = await receive()
        if message["type"] == "http.disconnect":
            parked.end(Ended.GONE)
            return

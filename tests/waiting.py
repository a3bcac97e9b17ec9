"""How tests wait for what happens elsewhere: for the event, with one bound that says "hung".

No verdict rests on how long something took. A machine that is ten times slower passes, later.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

HUNG_S = 60.0
LOOK_AGAIN_S = 0.02


def wait_until(is_so: Callable[[], object], *, what: str = "it", hung_s: float = HUNG_S) -> None:
    """Return once `is_so` answers something true; fail when it has hung for `hung_s`."""
    give_up_s = time.monotonic() + hung_s
    while not is_so():
        assert time.monotonic() < give_up_s, f"hung: waited {hung_s:.0f} s for {what}"
        threading.Event().wait(LOOK_AGAIN_S)


async def eventually(
    is_so: Callable[[], object], *, what: str = "it", hung_s: float = HUNG_S
) -> None:
    """Return once `is_so` answers something true, letting the event loop run meanwhile.

    For a loop on real time; a loop on virtual time sleeps for as long as the test says.
    """
    give_up_s = time.monotonic() + hung_s
    while not is_so():
        assert time.monotonic() < give_up_s, f"hung: waited {hung_s:.0f} s for {what}"
        await asyncio.sleep(LOOK_AGAIN_S)


def not_hung() -> asyncio.Timeout:
    """An asynchronous context that fails with TimeoutError what has hung inside it."""
    return asyncio.timeout(HUNG_S)

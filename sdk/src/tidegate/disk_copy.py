"""The copies of one service's policies on disk: everybody's, and that of a part of the instances.

Whoever belongs to a canary is decided by the name of the instance, which a restart may change. So
an instance starts from the copy that was for everybody, or from the other one when that was its
own; and from one that is neither only when there is nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

from tidegate.identity import Identity
from tidegate.store import PolicyStore, StoredPublication

log = logging.getLogger("tidegate")

PART = "canary"

InThread = Callable[[Callable[[], None]], Awaitable[None]]


class DiskCopy:
    """Keeps what was delivered to this process.

    Args:
        in_thread: runs what blocks beside the event loop.
    """

    def __init__(
        self,
        directory: Path,
        environment: str,
        service: str,
        identity: Identity,
        in_thread: InThread,
    ) -> None:
        self._in_thread = in_thread
        self._is_failing = False
        self._everybodys = PolicyStore(directory, environment, service)
        self._parts = PolicyStore(directory, environment, service, PART)
        self._identity = identity
        self._no_good: set[Path] = set()

    def own(self) -> Iterator[tuple[Path, StoredPublication]]:
        """Yield the copies that this instance may start from; the highest sequence counts."""
        for store in (self._everybodys, self._parts):
            copy = store.load()
            if copy is not None and (store is self._everybodys or self._is_own(copy)):
                yield store.path, copy

    def borrowed(self) -> Iterator[tuple[Path, StoredPublication]]:
        """Yield a copy that was meant for other instances, for want of a better one."""
        copy = self._parts.load()
        if copy is not None and not self._is_own(copy):
            yield self._parts.path, copy

    def distrust(self, path: Path) -> None:
        """Let the next copy replace this one, whatever its sequence."""
        self._no_good.add(path)

    async def save(self, copy: StoredPublication, cohort: str) -> bool:
        """Keep a copy of what was delivered; False when the disk is full, read-only, or not ours.

        That is said once, until it works again.
        """
        return await self._try(partial(self._write, copy, cohort))

    async def note_confirmation(self, copy: StoredPublication, cohort: str) -> None:
        """Let the copy that is there say when it was confirmed, for the age after a restart."""
        store = self._parts if cohort else self._everybodys
        is_ours = self._is_own if cohort else lambda present: True
        await self._try(partial(store.note_confirmation, copy, is_ours=is_ours))

    async def _try(self, work: Callable[[], None]) -> bool:
        try:
            await self._in_thread(work)
        except OSError as problem:
            if not self._is_failing:
                log.warning("the policy could not be stored, which is tried again: %s", problem)
            self._is_failing = True
            return False
        if self._is_failing:
            log.info("the policy is stored again")
        self._is_failing = False
        return True

    def _write(self, copy: StoredPublication, cohort: str) -> None:
        store = self._parts if cohort else self._everybodys

        def is_no_good(present: StoredPublication) -> bool:
            # Another instance's copy of a part is of no use to us, and its sequence says nothing.
            is_foreign = store is self._parts and not self._is_own(present)
            return is_foreign or store.path in self._no_good

        store.save(copy, is_no_good=is_no_good)
        self._no_good.discard(store.path)

    def _is_own(self, copy: StoredPublication) -> bool:
        return copy.instance == self._identity.name

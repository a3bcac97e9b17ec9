"""Snapshots in memory, one slot per service, and the polls that wait on each slot."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

from controlplane.delivery.domain.etags import Condition
from controlplane.delivery.domain.schedule import early_tags, next_due_unix, step_index
from controlplane.delivery.domain.snapshot import FLEET_DEFAULT, Snapshot, Step
from controlplane.delivery.hotpath.lanes import Sign

PREFIX = "/config/v1/"
REMEMBERED_TAGS = 256
CLOCK_CHECK_S = 1.0  # the longest that a jump of the wall clock can delay a scheduled step

Key = tuple[str, str]
Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Seen:
    """The last poll of an instance that was noted: its acknowledgement headers as they came."""

    applied: bytes | None
    rejected: bytes | None
    noted_at_unix: float


NAMELESS = Seen(applied=None, rejected=None, noted_at_unix=math.inf)
"""A poll that names no instance and acknowledges nothing: there is never anything to note."""


class Slot:
    """What one service is answered now, and who waits for that to change.

    A slot outlives its snapshots: a swap replaces the snapshot inside it, so that a waiter can
    register once and look again. `not_modified` holds the headers of a 304, ready to send;
    `seen` is what the instances of this service last said, by instance; None is all those that
    do not name themselves.
    """

    __slots__ = (
        "due_unix", "index", "key", "not_modified", "positions", "seen", "snapshot", "step", "tag",
        "waiters",
    )  # fmt: skip

    def __init__(self, key: Key, snapshot: Snapshot, now_unix: float) -> None:
        self.key = key
        self.waiters: set[asyncio.Future[None]] = set()
        self.seen: dict[bytes | None, Seen] = {None: NAMELESS}
        self.positions: dict[bytes, tuple[int, int]] = {}
        self.put(snapshot, now_unix)

    def put(self, snapshot: Snapshot, now_unix: float) -> None:
        """Serve `snapshot` from now on, at the step its schedule gives for `now_unix`."""
        self.snapshot = snapshot
        for number, step in enumerate(snapshot.steps):
            self.positions[step.tag] = (snapshot.sequence, number)
        while len(self.positions) > max(REMEMBERED_TAGS, len(snapshot.steps)):
            del self.positions[next(iter(self.positions))]
        self._stand_at(step_index(snapshot.steps, now_unix))

    def advance(self, now_unix: float) -> bool:
        """Move to the step in force at `now_unix`; say whether it is another one.

        Steps only go forward: a clock that is set back does not bring an ended override back.
        """
        index = step_index(self.snapshot.steps, now_unix)
        if index <= self.index:
            return False
        self._stand_at(index)
        return True

    def is_met_by(self, condition: Condition, now_unix: float) -> bool:
        """Say whether a client with this If-None-Match has nothing to fetch."""
        if condition.matches(self.tag):
            return True
        if self.due_unix == math.inf:
            return False
        early = early_tags(self.snapshot.steps, self.index, now_unix)
        return any(condition.matches(tag) for tag in early)

    def wake(self) -> None:
        """Let every waiter look again; each has to register anew to wait on."""
        waiters, self.waiters = self.waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _stand_at(self, index: int) -> None:
        self.index = index
        self.step: Step = self.snapshot.steps[index]
        self.due_unix = next_due_unix(self.snapshot.steps, index)
        self.tag = self.step.tag
        self.not_modified: Headers = (
            (b"etag", self.tag),
            (b"tidegate-sequence", str(self.snapshot.sequence).encode()),
            (b"cache-control", b"no-store"),
            (b"vary", b"Authorization, Prefer"),
        )


class SnapshotStore:
    """The newest snapshot of every service; all methods run on the event loop's thread.

    A service without a snapshot of its own is answered the fleet default of its environment.
    `behind_since_unix` is set while the database does not confirm that snapshots are current.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._slots: dict[Key, Slot] = {}
        self._by_path: dict[str, Slot] = {}
        self.find_by_path = self._by_path.get
        self._defaults: dict[str, Snapshot] = {}
        self._environments: set[str] = set()
        self._due: list[tuple[float, Key]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.sign: Sign | None = None
        self.is_loaded = False
        self.behind_since_unix: float | None = None

    def get(self, environment: str, service: str) -> Snapshot | None:
        """Return the snapshot that `service` is served; None when there is none at all."""
        slot = self.find_slot(environment, service)
        return None if slot is None else slot.snapshot

    def knows(self, environment: str) -> bool:
        """Say whether anything was ever published in `environment`."""
        return environment in self._environments

    def find_slot(self, environment: str, service: str) -> Slot | None:
        """Return the slot of `service`, making one from the fleet default when it has none."""
        slot = self._slots.get((environment, service))
        if slot is None and (default := self._defaults.get(environment)) is not None:
            slot = self._put((environment, service), default.for_service(service))
        return slot

    def swap(self, snapshot: Snapshot) -> bool:
        """Serve `snapshot` from now on and wake who waits; say whether anything changed.

        One whose sequence is not higher than what this service already got is ignored, so
        that no instance ever sees a sequence go back.
        """
        self._environments.add(snapshot.environment)
        if snapshot.service == FLEET_DEFAULT:
            return self._swap_default(snapshot)
        key = (snapshot.environment, snapshot.service)
        slot = self._slots.get(key)
        if slot is not None and snapshot.sequence <= slot.snapshot.sequence:
            return False
        self._put(key, snapshot)
        return True

    def use_signer(self, sign: Sign | None) -> None:
        """Sign answers with another key from now on; with none when it is None."""
        self.sign = sign

    def advance(self) -> None:
        """Let scheduled steps that are due take over, and wake who waits on them."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            slot = self._slots[heapq.heappop(self._due)[1]]
            if slot.advance(now):
                slot.wake()
            self._expect(slot)
        self._arm()

    def wake(self, key: Key) -> None:
        """Let every poll parked on one service look again."""
        slot = self._slots.get(key)
        if slot is not None:
            slot.wake()

    def wake_all(self) -> None:
        """Let every parked poll look again, whatever it waits on."""
        for slot in self._slots.values():
            slot.wake()

    def _swap_default(self, snapshot: Snapshot) -> bool:
        before = self._defaults.get(snapshot.environment)
        if before is not None and snapshot.sequence <= before.sequence:
            return False
        self._defaults[snapshot.environment] = snapshot
        for (environment, service), slot in list(self._slots.items()):
            is_unregistered = before is not None and slot.snapshot.sequence == before.sequence
            if environment == snapshot.environment and is_unregistered:
                self._put(slot.key, snapshot.for_service(service))
        return True

    def _put(self, key: Key, snapshot: Snapshot) -> Slot:
        slot = self._slots.get(key)
        if slot is None:
            slot = Slot(key, snapshot, self._clock())
            self._slots[key] = self._by_path[f"{PREFIX}{key[0]}/{key[1]}"] = slot
        else:
            slot.put(snapshot, self._clock())
            slot.wake()
        self._expect(slot)
        self._arm()
        return slot

    def _expect(self, slot: Slot) -> None:
        if slot.due_unix != math.inf:
            heapq.heappush(self._due, (slot.due_unix, slot.key))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._due:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # filled before the loop runs; the first advance() or swap on it arms
        delay_s = min(max(self._due[0][0] - self._clock(), 0.0), CLOCK_CHECK_S)
        self._timer = loop.call_later(delay_s, self.advance)

"""Snapshots in memory, one slot per service, and who waits on each."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

from controlplane.delivery.domain.snapshot import CANARY, FLEET_DEFAULT, Snapshot
from controlplane.delivery.hotpath.lanes import Lane, Sign
from controlplane.delivery.hotpath.wakeups import Waiter, Wakeups

PREFIX = "/config/v1/"
REMEMBERED_TAGS = 256
CLOCK_CHECK_S = 1.0  # the longest that a jump of the wall clock can delay a scheduled step

ServiceKey = tuple[str, str]


@dataclass(slots=True)
class Seen:
    """The last poll of an instance that was noted, and the lane that serves it.

    `applied` and `rejected` are its acknowledgement headers as they came.
    """

    applied: bytes | None
    rejected: bytes | None
    noted_at_unix: float
    lane: Lane


class Slot:
    """What one service is answered now, by cohort.

    A slot outlives its snapshots: a swap replaces the snapshot inside a lane. `seen` is what the
    instances of this service last said, by instance; None is all those that do not name
    themselves: they acknowledge nothing, so there is never anything to note of them.
    """

    __slots__ = (
        "canary", "due_unix", "key", "parked_count", "positions", "seen", "stable", "wakeups",
    )  # fmt: skip

    def __init__(
        self, key: ServiceKey, snapshot: Snapshot, now_unix: float, wakeups: Wakeups
    ) -> None:
        self.key = key
        self.wakeups = wakeups
        self.positions: dict[bytes, tuple[int, int]] = {}
        self.stable = Lane(snapshot, now_unix)
        self.canary: Lane | None = None
        self.parked_count = 0
        self.seen: dict[bytes | None, Seen] = {
            None: Seen(None, None, noted_at_unix=math.inf, lane=self.stable)
        }
        self.due_unix = math.inf
        self._remember(snapshot)

    def lane(self, instance: bytes | None) -> Lane:
        """Return the lane that serves `instance`; one without a name is always on the stable."""
        if self.canary is None:
            return self.stable
        seen = self.seen.get(instance)
        if seen is not None:
            return seen.lane
        return self._find_lane(instance)

    def put(self, snapshot: Snapshot, now_unix: float) -> None:
        """Serve a newer snapshot from now on, and wake those whose answer it changes."""
        if snapshot.cohort == CANARY:
            self._put_canary(snapshot, now_unix)
        else:
            self.stable.put(snapshot, now_unix)
            self.wakeups.add(self.stable)
        self._remember(snapshot)

    def advance(self, now_unix: float) -> None:
        """Move each lane to the step in force at `now_unix`, and wake who waits on it."""
        for lane in (self.stable, self.canary):
            if lane is not None and lane.advance(now_unix):
                self.wakeups.add(lane)
        self._note_due()

    def wake(self) -> None:
        """Let every waiter look again; each has to register anew to wait on."""
        self.wakeups.add(self.stable)
        if self.canary is not None:
            self.wakeups.add(self.canary)

    def newest_sequence(self, cohort: str) -> int:
        """Return the sequence of what a cohort is served; 0 when the slot has no such lane."""
        lane = self.canary if cohort == CANARY else self.stable
        return 0 if lane is None else lane.snapshot.sequence

    def _put_canary(self, snapshot: Snapshot, now_unix: float) -> None:
        if self.canary is None:
            self.canary = Lane(snapshot, now_unix)
        else:
            self.canary.put(snapshot, now_unix)
        self.wakeups.add(self.canary)
        for instance, seen in self.seen.items():
            seen.lane = self._find_lane(instance)
        # Of the others only those move whom the canary reaches from now on.
        self.wakeups.add(self.stable, only=lambda waiter: self.lane(waiter.instance) is self.canary)

    def _find_lane(self, instance: bytes | None) -> Lane:
        if self.canary is not None and self.canary.reaches(instance):
            return self.canary
        return self.stable

    def _remember(self, snapshot: Snapshot) -> None:
        for number, step in enumerate(snapshot.steps):
            self.positions[step.tag] = (snapshot.sequence, number)
        while len(self.positions) > max(REMEMBERED_TAGS, 2 * len(snapshot.steps)):
            del self.positions[next(iter(self.positions))]
        self._note_due()

    def _note_due(self) -> None:
        canary_due_unix = math.inf if self.canary is None else self.canary.due_unix
        self.due_unix = min(self.stable.due_unix, canary_due_unix)


class SnapshotStore:
    """The newest snapshot of every service; all methods run on the event loop's thread.

    A service without a snapshot of its own is answered the fleet default of its environment.
    `behind_since_unix` is set while the database does not confirm that snapshots are current.
    `claim` is the highest sequence that a client held and this process did not know yet, with the
    service it was for, since `take_claim` was last called.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._slots: dict[ServiceKey, Slot] = {}
        self._by_path: dict[str, Slot] = {}
        self.find_by_path = self._by_path.get
        self._defaults: dict[str, Snapshot] = {}
        self._environments: set[str] = set()
        self._due: list[tuple[float, ServiceKey]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._wakeups = Wakeups()
        self.sign: Sign | None = None
        self.is_loaded = False
        self.behind_since_unix: float | None = None
        self.claim: tuple[int, ServiceKey] | None = None

    @property
    def is_waking(self) -> bool:
        """True while some of those who were woken have not looked yet."""
        return self._wakeups.is_busy

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

        One whose sequence is not higher than what this cohort of the service already got is
        ignored, so that no instance ever sees a sequence go back.
        """
        self._environments.add(snapshot.environment)
        if snapshot.service == FLEET_DEFAULT:
            return self._swap_default(snapshot)
        key = (snapshot.environment, snapshot.service)
        slot = self._slots.get(key)
        if slot is not None and snapshot.sequence <= slot.newest_sequence(snapshot.cohort):
            return False
        if slot is None and snapshot.cohort == CANARY:
            return False  # a canary is a part of something
        self._put(key, snapshot)
        return True

    def use_signer(self, sign: Sign | None) -> None:
        """Sign what is answered from now on with `sign`; None signs nothing."""
        self.sign = sign
        for slot in self._slots.values():
            for lane in (slot.stable, slot.canary):
                if lane is not None:
                    lane.forget_answers()

    def advance(self) -> None:
        """Let scheduled steps that are due take over, and wake who waits on them."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            slot = self._slots[heapq.heappop(self._due)[1]]
            slot.advance(now)
            self._expect(slot)
        self._arm()

    def note_claim(self, sequence: int, key: ServiceKey) -> None:
        """Remember that a client of a service holds a publication that is not known here."""
        if self.claim is None or sequence > self.claim[0]:
            self.claim = (sequence, key)

    def take_claim(self) -> tuple[int, ServiceKey] | None:
        """Return the highest claim since the last call; None when there was none."""
        claim, self.claim = self.claim, None
        return claim

    def wake(self, key: ServiceKey) -> None:
        """Let every poll parked on one service look again."""
        slot = self._slots.get(key)
        if slot is not None:
            slot.wake()

    def wake_all(self) -> None:
        """Let every parked poll look again, whatever it waits on."""
        for slot in self._slots.values():
            slot.wake()

    def list_waiters(self) -> list[Waiter]:
        """Return every held poll and stream."""
        return [
            waiter
            for slot in self._slots.values()
            for lane in (slot.stable, slot.canary)
            if lane is not None
            for waiter in lane.waiters
        ]

    def _swap_default(self, snapshot: Snapshot) -> bool:
        before = self._defaults.get(snapshot.environment)
        if before is not None and snapshot.sequence <= before.sequence:
            return False
        self._defaults[snapshot.environment] = snapshot
        for (environment, service), slot in list(self._slots.items()):
            is_unregistered = (
                before is not None and slot.stable.snapshot.sequence == before.sequence
            )
            if environment == snapshot.environment and is_unregistered:
                self._put(slot.key, snapshot.for_service(service))
        return True

    def _put(self, key: ServiceKey, snapshot: Snapshot) -> Slot:
        slot = self._slots.get(key)
        if slot is None:
            slot = Slot(key, snapshot, self._clock(), self._wakeups)
            self._slots[key] = self._by_path[f"{PREFIX}{key[0]}/{key[1]}"] = slot
        else:
            slot.put(snapshot, self._clock())
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

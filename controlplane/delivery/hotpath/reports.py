"""What instances say in their polls, held until the next batch is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from controlplane.delivery.hotpath.headers import Report
from controlplane.delivery.hotpath.store import Seen, ServiceKey, Slot

REFRESH_S = 5.0
SILENT_S = 120.0
SWEEP_S = 10.0
MAX_MARKS = 16  # of one instance while the database is away: the newest eight publications

Outcome = Literal["fetched", "applied", "rejected"]


@dataclass(frozen=True, slots=True)
class Mark:
    """What one instance did with one entity tag. `sequence` is None for a tag we never gave."""

    outcome: Outcome
    etag: str
    sequence: int | None
    step: int
    at_unix: float
    reason: str = ""


@dataclass(slots=True)
class InstanceNote:
    """What is to be written about one instance: the newest state, and what it did in order."""

    environment: str
    service: str
    instance_id: str
    seen_at_unix: float
    sdk: str = ""
    fetched_at_unix: float | None = None
    marks: list[Mark] = field(default_factory=list)
    has_report: bool = False


class ReportBuffer:
    """Notes on instances since the last batch; a poll that says nothing new costs a look-up.

    Bounded twice: one service cannot name more than `max_per_service` instances, all together
    not more than `max_instances`. What does not fit is counted in `dropped_count`, and the poll
    is answered all the same.
    """

    def __init__(self, *, max_instances: int = 50_000, max_per_service: int = 10_000) -> None:
        self._slots: dict[ServiceKey, Slot] = {}
        self._count = 0
        self._pending: dict[tuple[ServiceKey, bytes], InstanceNote] = {}
        self._max_instances = max_instances
        self._max_per_service = max_per_service
        self._swept_at_unix = 0.0
        self.dropped_count = 0

    def note(
        self,
        slot: Slot,
        report: Report,
        raw: tuple[bytes | None, bytes | None],
        *,
        is_fetching: bool,
        now_unix: float,
    ) -> None:
        """Remember what one poll says; `raw` are its Tidegate-Applied and -Rejected as they came.

        Nothing is kept when the instance said the same less than 5 s ago and is sent no policy.
        """
        identity = (slot.key, report.instance)
        seen = slot.seen.get(report.instance)
        is_new = seen is None or (seen.applied, seen.rejected) != raw
        if seen is None:
            is_due = True
        else:
            since_s = now_unix - seen.noted_at_unix  # less than 0: the clock was set back
            is_due = is_new or is_fetching or not 0.0 <= since_s < REFRESH_S
        if not is_due:
            return
        pending = self._pending.get(identity)
        # While the database is away nothing is taken out, and forgotten instances leave notes.
        is_full = pending is None and len(self._pending) >= self._max_instances
        if is_full or (seen is None and not self._has_room(slot, now_unix)):
            self.dropped_count += 1
            return
        slot.seen[report.instance] = Seen(
            *raw, noted_at_unix=now_unix, lane=slot.lane(report.instance)
        )
        if pending is None:
            environment, service = slot.key
            pending = InstanceNote(environment, service, report.instance.decode(), now_unix)
            self._pending[identity] = pending
        pending.seen_at_unix = now_unix
        pending.sdk = report.sdk
        pending.has_report |= is_new or is_fetching
        if is_new:
            self._mark(pending, slot, report, now_unix)
        if is_fetching:
            pending.fetched_at_unix = now_unix
            self._mark_fetched(pending, slot, now_unix)

    def take(self, limit: int = 2_000) -> list[InstanceNote]:
        """Remove and return up to `limit` notes, oldest first."""
        if len(self._pending) <= limit:
            taken, self._pending = list(self._pending.values()), {}
            return taken
        keys = [key for key, _ in zip(self._pending, range(limit), strict=False)]
        return [self._pending.pop(key) for key in keys]

    def give_back(self, notes: list[InstanceNote]) -> None:
        """Keep notes that could not be written; what came since about an instance wins."""
        for note in notes:
            identity = ((note.environment, note.service), note.instance_id.encode())
            newer = self._pending.get(identity)
            if newer is None:
                self._pending[identity] = note
                continue
            newer.marks[:0] = note.marks
            del newer.marks[:-MAX_MARKS]
            newer.has_report |= note.has_report
            if newer.fetched_at_unix is None:
                newer.fetched_at_unix = note.fetched_at_unix

    def __len__(self) -> int:
        return len(self._pending)

    def _mark(self, pending: InstanceNote, slot: Slot, report: Report, now_unix: float) -> None:
        for outcome, tag in _outcomes(report):
            sequence, step = slot.positions.get(tag, (None, 0))
            pending.marks.append(
                Mark(
                    outcome=outcome,
                    etag=tag[1:-1].decode("latin-1"),
                    sequence=sequence,
                    step=step,
                    at_unix=now_unix,
                    reason=report.reason if outcome == "rejected" else "",
                )
            )
        del pending.marks[:-MAX_MARKS]

    def _mark_fetched(self, pending: InstanceNote, slot: Slot, now_unix: float) -> None:
        lane = slot.lane(pending.instance_id.encode())
        etag = lane.step.etag
        # A client without conditions is sent the same each time; only the first counts.
        if any(mark.outcome == "fetched" and mark.etag == etag for mark in pending.marks):
            return
        pending.marks.append(
            Mark("fetched", etag, lane.snapshot.sequence, lane.index, at_unix=now_unix)
        )
        del pending.marks[:-MAX_MARKS]

    def _has_room(self, slot: Slot, now_unix: float) -> bool:
        if self._is_full(slot):
            self._forget_silent(now_unix)
        if self._is_full(slot):
            return False
        self._slots[slot.key] = slot
        self._count += 1
        return True

    def _is_full(self, slot: Slot) -> bool:
        return len(slot.seen) > self._max_per_service or self._count >= self._max_instances

    def _forget_silent(self, now_unix: float) -> None:
        # A sweep reads every instance: made-up names must not buy one with each poll.
        if abs(now_unix - self._swept_at_unix) < SWEEP_S:
            return
        self._swept_at_unix = now_unix
        for slot in self._slots.values():
            for instance, seen in list(slot.seen.items()):
                if instance is not None and abs(now_unix - seen.noted_at_unix) > SILENT_S:
                    del slot.seen[instance]
                    self._count -= 1


def _outcomes(report: Report) -> list[tuple[Outcome, bytes]]:
    outcomes: list[tuple[Outcome, bytes]] = []
    if report.applied is not None:
        outcomes.append(("applied", report.applied))
    if report.rejected is not None:
        outcomes.append(("rejected", report.rejected))
    return outcomes

"""What each instance did with one publication: a row per instance, the troubled ones first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controlplane.delivery.domain.convergence import (
    LIVE_WITHIN,
    Answered,
    InstanceState,
    has_passed,
    since_s,
)


class Progress(StrEnum):
    """How far one instance is with a publication; in the order in which they matter."""

    REJECTED = "rejected"
    SILENT = "silent"
    FETCHED = "fetched"
    WAITING = "waiting"
    APPLIED = "applied"
    PASSED = "passed"
    JOINED_LATER = "joined_later"


_RANK = {progress: rank for rank, progress in enumerate(Progress)}


@dataclass(frozen=True, slots=True)
class InstanceProgress:
    """One instance and one publication. Seconds count from the publication.

    `enforces` is the sequence it enforces now; None when it names none of ours, or is forgotten.
    `last_seen_at` is None for an instance that was forgotten since.
    """

    instance_id: str
    progress: Progress
    fetched_at: datetime | None
    applied_at: datetime | None
    rejected_at: datetime | None
    reason: str
    fetch_s: float | None
    apply_s: float | None
    reject_s: float | None
    enforces: int | None
    is_live: bool
    last_seen_at: datetime | None

    @property
    def rank(self) -> tuple[int, float, str]:
        """Sorts troubled instances first, and then the slowest."""
        return (_RANK[self.progress], -(self.apply_s or 0.0), self.instance_id)


def follow_instances(
    *,
    sequence: int,
    published_at: datetime,
    known: Iterable[InstanceState],
    answers: Iterable[Answered],
    now: datetime,
) -> list[InstanceProgress]:
    """Return every instance that answered the publication, or should have, the troubled first.

    Whoever had gone before it was published, and never answered, has nothing to do with it.
    """
    by_instance = {answer.instance_id: answer for answer in answers}
    rows = []
    for each in known:
        answer = by_instance.pop(each.instance_id, None)
        if answer is None and each.last_seen_at <= published_at - LIVE_WITHIN:
            continue
        found = answer or Answered(each.instance_id)
        rows.append(_row(found, each, sequence, published_at, now))
    rows.extend(_row(left, None, sequence, published_at, now) for left in by_instance.values())
    return sorted(rows, key=lambda row: row.rank)


def _row(
    answer: Answered,
    known: InstanceState | None,
    sequence: int,
    published_at: datetime,
    now: datetime,
) -> InstanceProgress:
    is_live = known is not None and known.is_live(now)
    is_rejecting = known is not None and known.rejected_sequence == sequence
    return InstanceProgress(
        instance_id=answer.instance_id,
        progress=_progress(answer, known, sequence, published_at, is_live=is_live),
        fetched_at=answer.fetched_at,
        applied_at=answer.applied_at,
        rejected_at=answer.rejected_at,
        reason=answer.reason or (known.reason if known and is_rejecting else ""),
        fetch_s=_after_s(answer.fetched_at, published_at),
        apply_s=_after_s(answer.applied_at, published_at),
        reject_s=_after_s(answer.rejected_at, published_at),
        enforces=None if known is None else known.sequence,
        is_live=is_live,
        last_seen_at=None if known is None else known.last_seen_at,
    )


def _progress(
    answer: Answered,
    known: InstanceState | None,
    sequence: int,
    published_at: datetime,
    *,
    is_live: bool,
) -> Progress:
    if known is not None and known.first_seen_at > published_at:
        is_late = has_passed(known, sequence) or answer.applied_at is not None
        if is_late:
            return Progress.JOINED_LATER
    if answer.applied_at is not None:
        return Progress.APPLIED
    if known is not None and has_passed(known, sequence):
        return Progress.PASSED
    if answer.rejected_at is not None:
        return Progress.REJECTED
    if known is not None and known.rejected_sequence == sequence:
        return Progress.REJECTED
    if not is_live:
        return Progress.SILENT
    return Progress.FETCHED if answer.fetched_at is not None else Progress.WAITING


def _after_s(at: datetime | None, published_at: datetime) -> float | None:
    return None if at is None else since_s(at, published_at)

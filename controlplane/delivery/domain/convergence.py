"""How a publication spreads over the instances of its service. Pure arithmetic on answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

LIVE_WITHIN = timedelta(seconds=35)
"""An instance seen within this time is live: a long-poll lasts 30 s, and 5 s are for the way."""

FOLLOWED_FOR = timedelta(minutes=2)
"""Whoever lives and has not answered by then is named, not waited for."""

LAGGARDS = 5


class Phase(StrEnum):
    """Where a publication is on its way."""

    CONVERGING = "converging"
    CONVERGED = "converged"
    REJECTED = "rejected"
    UNANSWERED = "unanswered"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class InstanceState:
    """An instance: when it was first and last seen, and which publication it enforces now."""

    instance_id: str
    first_seen_at: datetime
    last_seen_at: datetime
    sequence: int | None
    rejected_sequence: int | None = None
    reason: str = ""

    def is_live(self, now: datetime) -> bool:
        """Whether it polls now."""
        return self.last_seen_at > now - LIVE_WITHIN


@dataclass(frozen=True, slots=True)
class Answered:
    """What one instance did with the publication, and when first; None for not yet."""

    instance_id: str
    fetched_at: datetime | None = None
    applied_at: datetime | None = None
    rejected_at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An instance that could not apply the publication, and why."""

    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Laggard:
    """One of the slowest: how long it took to apply, or has been waited for until now."""

    instance_id: str
    late_s: float
    has_applied: bool


@dataclass(frozen=True, slots=True)
class Propagation:
    """Seconds from publication to each instance, in order, and what they amount to."""

    took_s: tuple[float, ...]

    @property
    def count(self) -> int:
        """How many instances were timed."""
        return len(self.took_s)

    @property
    def first_s(self) -> float | None:
        """The quickest; None when there is none."""
        return self.took_s[0] if self.took_s else None

    @property
    def p50_s(self) -> float | None:
        """Half of them took no longer."""
        return nearest_rank(self.took_s, 0.50)

    @property
    def p95_s(self) -> float | None:
        """95 of 100 took no longer."""
        return nearest_rank(self.took_s, 0.95)

    @property
    def p99_s(self) -> float | None:
        """99 of 100 took no longer."""
        return nearest_rank(self.took_s, 0.99)

    @property
    def last_s(self) -> float | None:
        """The slowest; None when there is none."""
        return self.took_s[-1] if self.took_s else None


@dataclass(frozen=True, slots=True)
class Convergence:
    """How far one publication has spread over the live instances it is meant for.

    `fetched` counts those it was sent to and `applied` those that enforce it or a later one;
    `silent` have not answered yet. Times are seconds from publication until an instance was sent
    it (`fetch`) and until its acknowledgement (`apply`). Instances that started after the
    publication count as applied and leave the times alone.
    """

    sequence: int
    published_at: datetime
    live: int
    fetched: int
    applied: int
    rejected: tuple[Rejected, ...]
    silent: tuple[str, ...]
    laggards: tuple[Laggard, ...]
    fetch: Propagation
    apply: Propagation

    @property
    def first_s(self) -> float | None:
        """Until the first instance enforced it."""
        return self.apply.first_s

    @property
    def p50_s(self) -> float | None:
        """Until half of those that enforce it did."""
        return self.apply.p50_s

    @property
    def p95_s(self) -> float | None:
        """Until 95 of 100 of those that enforce it did."""
        return self.apply.p95_s

    @property
    def p99_s(self) -> float | None:
        """Until 99 of 100 of those that enforce it did."""
        return self.apply.p99_s

    @property
    def last_s(self) -> float | None:
        """Until the last of those that enforce it did."""
        return self.apply.last_s

    @property
    def is_complete(self) -> bool:
        """True when there are live instances and every one of them enforces it, or a later one."""
        return self.live > 0 and self.applied == self.live

    @property
    def is_answered(self) -> bool:
        """True when there are live instances and every one of them applied or rejected it."""
        return self.live > 0 and self.applied + len(self.rejected) >= self.live

    def phase(self, now: datetime) -> Phase:
        """Say where it is on its way: it is followed for two minutes, then judged as it stands."""
        if self.is_complete:
            return Phase.CONVERGED
        if not self.is_answered and now - self.published_at <= FOLLOWED_FOR:
            return Phase.CONVERGING
        if self.rejected:
            return Phase.REJECTED
        return Phase.UNANSWERED if self.live else Phase.NOBODY


def measure_convergence(
    *,
    sequence: int,
    published_at: datetime,
    known: Iterable[InstanceState],
    answers: Iterable[Answered],
    now: datetime,
) -> Convergence:
    """Relate the answers to one publication to the known instances of those that it is for.

    An instance that enforces a later publication has passed this one, whether or not it ever
    answered it: publications replace each other, and a poll may skip some.
    """
    by_instance = {answer.instance_id: answer for answer in answers}
    rejected: list[Rejected] = []
    silent: list[str] = []
    applied = fetched = count = 0
    joined_later: set[str] = set()
    for instance in known:
        if instance.first_seen_at > published_at:
            joined_later.add(instance.instance_id)
        if not instance.is_live(now):
            continue
        count += 1
        answer = by_instance.get(instance.instance_id, Answered(instance.instance_id))
        if has_passed(instance, sequence) or answer.applied_at is not None:
            applied += 1
            fetched += 1
            continue
        fetched += answer.fetched_at is not None or answer.rejected_at is not None
        if answer.rejected_at is not None:
            rejected.append(Rejected(instance.instance_id, answer.reason))
        elif instance.rejected_sequence == sequence:
            rejected.append(Rejected(instance.instance_id, instance.reason))
        else:
            silent.append(instance.instance_id)
    timed = [each for each in by_instance.values() if each.instance_id not in joined_later]
    waited_s = since_s(now, published_at)
    return Convergence(
        sequence=sequence,
        published_at=published_at,
        live=count,
        fetched=fetched,
        applied=applied,
        rejected=tuple(rejected),
        silent=tuple(silent),
        laggards=_laggards(timed, silent, published_at, waited_s),
        fetch=_propagation(timed, published_at, lambda answer: answer.fetched_at),
        apply=_propagation(timed, published_at, lambda answer: answer.applied_at),
    )


def has_passed(instance: InstanceState, sequence: int) -> bool:
    """Say whether an instance enforces this publication, or one after it."""
    return instance.sequence is not None and instance.sequence >= sequence


def since_s(at: datetime, published_at: datetime) -> float:
    """Return the seconds from a publication to what came of it; clocks differ, yet never < 0."""
    return max(0.0, (at - published_at).total_seconds())


def nearest_rank(ordered: Sequence[float], ratio: float) -> float | None:
    """Return the smallest value that at least `ratio` of `ordered` do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(ratio * len(ordered)) - 1)]


def _propagation(
    answers: Iterable[Answered],
    published_at: datetime,
    moment: Callable[[Answered], datetime | None],
) -> Propagation:
    moments = (moment(answer) for answer in answers)
    return Propagation(tuple(sorted(since_s(at, published_at) for at in moments if at is not None)))


def _laggards(
    answers: Iterable[Answered], silent: Sequence[str], published_at: datetime, waited_s: float
) -> tuple[Laggard, ...]:
    """Name the slowest: who is still waited for first, then by how long it took."""
    waiting = [Laggard(name, waited_s, has_applied=False) for name in silent]
    applied = [
        Laggard(answer.instance_id, since_s(answer.applied_at, published_at), has_applied=True)
        for answer in answers
        if answer.applied_at is not None
    ]
    applied.sort(key=lambda each: (-each.late_s, each.instance_id))
    return tuple((waiting + applied)[:LAGGARDS])

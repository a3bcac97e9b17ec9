"""Which instances enforce something other than what they should, and for how long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from controlplane.delivery.domain.compile import POLL_HINTS
from controlplane.delivery.domain.convergence import LIVE_WITHIN
from controlplane.delivery.domain.served import Lineup, Served

REPORTED_WITHIN = timedelta(seconds=3)  # a batch of reports takes 0.25 s; the rest is for load
POLLED_WITHIN = (
    timedelta(seconds=POLL_HINTS["interval_s"] * (1 + POLL_HINTS["jitter"])) + REPORTED_WITHIN
)
"""The longest that a healthy instance takes to hear of a publication and say so."""

GONE_AFTER = timedelta(minutes=15)
"""An instance not seen for so long has been stopped: that is history, not drift."""

MAX_REASONS = 10
OTHER_REASONS = "other reasons"


class DriftKind(StrEnum):
    """What is wrong with what an instance enforces; in the order in which they matter."""

    REJECTED = "rejected"
    UNKNOWN = "unknown"
    BEHIND = "behind"
    AHEAD = "ahead"
    UNCONFIRMED = "unconfirmed"
    SILENT = "silent"


_RANK = {kind: rank for rank, kind in enumerate(DriftKind)}


@dataclass(frozen=True, slots=True)
class Enforcing:
    """One instance and what it last said it enforces."""

    service: str
    instance_id: str
    etag: str
    sequence: int | None
    step: int
    is_rejecting: bool
    rejected_sequence: int | None
    rejected_at: datetime | None
    reason: str
    first_seen_at: datetime
    last_seen_at: datetime

    def is_live(self, now: datetime) -> bool:
        """Whether it polls now."""
        return self.last_seen_at > now - LIVE_WITHIN


@dataclass(frozen=True, slots=True)
class Drift:
    """One instance that enforces something else than `expected`, or does not say."""

    service: str
    instance_id: str
    kind: DriftKind
    expected: int
    enforces: int | None
    etag: str
    reason: str
    since: datetime
    late_s: float
    last_seen_at: datetime

    @property
    def rank(self) -> tuple[int, float, str]:
        """Sorts the worst kind first, and then the latest."""
        return (_RANK[self.kind], -self.late_s, self.instance_id)


@dataclass(frozen=True, slots=True)
class ServiceDrift:
    """One service: how many of its live instances enforce what they should, and who does not."""

    service: str
    live: int
    current: int
    drifts: tuple[Drift, ...]
    has_own_publication: bool = True

    @property
    def drifting(self) -> tuple[Drift, ...]:
        """Live instances that enforce something else."""
        return tuple(each for each in self.drifts if each.kind is not DriftKind.SILENT)

    @property
    def silent(self) -> tuple[Drift, ...]:
        """Instances that stopped asking a short while ago."""
        return tuple(each for each in self.drifts if each.kind is DriftKind.SILENT)

    @property
    def rank(self) -> tuple[int, float, str]:
        """Sorts services with the worst drift first."""
        if not self.drifts:
            return (len(_RANK), 0.0, self.service)
        worst = self.drifts[0]
        return (_RANK[worst.kind], -worst.late_s, self.service)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Live instances of one service that cannot apply what they should, for one reason."""

    environment: str
    service: str
    sequence: int
    reason: str
    instances: tuple[str, ...]
    live: int
    since: datetime
    has_own_publication: bool = True


def find_drift(instance: Enforcing, expected: Served, now: datetime) -> Drift | None:
    """Judge one instance; None when all is well, still on its way, or the instance is gone."""
    kind = _kind(instance, expected, now)
    if kind is None:
        return None
    since = _since(instance, expected, kind)
    return Drift(
        service=instance.service,
        instance_id=instance.instance_id,
        kind=kind,
        expected=expected.sequence,
        enforces=instance.sequence,
        etag=instance.etag,
        reason=instance.reason if kind is DriftKind.REJECTED else "",
        since=since,
        late_s=max(0.0, (now - since).total_seconds()),
        last_seen_at=instance.last_seen_at,
    )


def judge_service(
    service: str, lineup: Lineup, instances: Iterable[Enforcing], now: datetime
) -> ServiceDrift:
    """Judge every instance of one service, the worst first."""
    live = current = 0
    drifts: list[Drift] = []
    for instance in instances:
        expected = lineup.for_instance(instance.instance_id)
        is_live = instance.is_live(now)
        live += is_live
        if expected is None:
            continue
        current += is_live and instance.sequence == expected.sequence
        drift = find_drift(instance, expected, now)
        if drift is not None:
            drifts.append(drift)
    drifts.sort(key=lambda each: each.rank)
    return ServiceDrift(
        service=service,
        live=live,
        current=current,
        drifts=tuple(drifts),
        has_own_publication=lineup.is_own,
    )


def group_rejections(environment: str, services: Iterable[ServiceDrift]) -> list[Rejection]:
    """Return the rejections among drifts by service, sequence and reason, most instances first.

    Of one publication at most ten reasons stand alone; a client that puts something of the
    moment into its reason ends up under one name with the rest.
    """
    rejections: list[Rejection] = []
    for service in services:
        by_sequence: dict[int, dict[str, list[Drift]]] = defaultdict(lambda: defaultdict(list))
        for drift in service.drifts:
            if drift.kind is DriftKind.REJECTED:
                by_sequence[drift.expected][drift.reason].append(drift)
        for sequence, by_reason in sorted(by_sequence.items()):
            for reason, drifts in _bounded(by_reason):
                rejections.append(
                    Rejection(
                        environment=environment,
                        service=service.service,
                        sequence=sequence,
                        reason=reason,
                        instances=tuple(sorted(drift.instance_id for drift in drifts)),
                        live=service.live,
                        since=min(drift.since for drift in drifts),
                        has_own_publication=service.has_own_publication,
                    )
                )
    return rejections


def _bounded(by_reason: dict[str, list[Drift]]) -> list[tuple[str, list[Drift]]]:
    # The oldest reasons keep their names: an alert that fired must not lose its own to a newer.
    ordered = sorted(by_reason.items(), key=lambda each: (min(d.since for d in each[1]), each[0]))
    if len(ordered) <= MAX_REASONS:
        named, rest = ordered, []
    else:
        named, rest = ordered[: MAX_REASONS - 1], ordered[MAX_REASONS - 1 :]
    named.sort(key=lambda each: (-len(each[1]), each[0]))
    if rest:
        named.append((OTHER_REASONS, [drift for _, drifts in rest for drift in drifts]))
    return named


def _kind(instance: Enforcing, expected: Served, now: datetime) -> DriftKind | None:
    if instance.last_seen_at <= now - GONE_AFTER:
        return None
    if not instance.is_live(now):
        return DriftKind.SILENT
    if instance.sequence == expected.sequence and not _is_late_to_switch(instance, expected, now):
        return None
    if _rejects(instance, expected):
        return DriftKind.REJECTED
    if now - max(expected.issued_at, instance.first_seen_at) < POLLED_WITHIN:
        return None
    if not instance.etag:
        return DriftKind.UNCONFIRMED
    if instance.sequence is None:
        return DriftKind.UNKNOWN
    return DriftKind.BEHIND if instance.sequence <= expected.sequence else DriftKind.AHEAD


def _rejects(instance: Enforcing, expected: Served) -> bool:
    """Say whether it rejects what it should enforce, or something that we cannot place."""
    return instance.is_rejecting and instance.rejected_sequence in (None, expected.sequence)


def _is_late_to_switch(instance: Enforcing, expected: Served, now: datetime) -> bool:
    return instance.step < expected.step_at(now - POLLED_WITHIN)


def _since(instance: Enforcing, expected: Served, kind: DriftKind) -> datetime:
    if kind is DriftKind.SILENT:
        return instance.last_seen_at
    since = max(expected.issued_at, instance.first_seen_at)
    if kind is DriftKind.REJECTED:
        return max(since, instance.rejected_at or since)
    if instance.sequence == expected.sequence:  # it missed a scheduled switch
        return max(since, expected.switches_at[instance.step])
    return since

"""Who enforces something else than it should, over the whole fleet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.delivery.domain.convergence import LIVE_WITHIN
from controlplane.delivery.domain.drift import (
    GONE_AFTER,
    Rejection,
    ServiceDrift,
    group_rejections,
    judge_service,
)
from controlplane.delivery.models import InstanceReport
from controlplane.delivery.selectors.rows import enforcing_by_service, read_lineups, reports_of

SILENCE_DOUBTED_FOR = timedelta(days=1)  # then the instances themselves are forgotten


@dataclass(frozen=True, slots=True)
class Reporting:
    """When any instance was last reported, and the moment by which to judge all of them.

    When every instance falls silent at once, more likely delivery cannot write what they report.
    Then they are judged as of the last report: a fleet must not look gone, nor a rejection over,
    because nobody heard of it any more. `newest_at` is None when there is nothing to doubt;
    `is_stale` says that the last report is so old that what it says may not be so any more.
    """

    newest_at: datetime | None
    as_of: datetime
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class FleetDrift:
    """Every service with an instance seen of late, the worst first."""

    services: tuple[ServiceDrift, ...]

    @property
    def live(self) -> int:
        """How many instances poll now."""
        return sum(service.live for service in self.services)

    @property
    def current(self) -> int:
        """How many of them enforce what they should."""
        return sum(service.current for service in self.services)

    @property
    def drifting(self) -> int:
        """How many of them do not, for longer than it takes to poll, or refuse to."""
        return sum(len(service.drifting) for service in self.services)

    @property
    def silent(self) -> int:
        """How many instances stopped asking a short while ago."""
        return sum(len(service.silent) for service in self.services)


def fleet_drift(
    environment: str, services: Collection[str] | None = None, *, now: datetime
) -> FleetDrift:
    """Judge every instance seen in the last quarter of an hour; two queries.

    Those of all services unless some are named.
    """
    lineups = read_lineups(environment)
    by_service = enforcing_by_service(environment, services, seen_after=now - GONE_AFTER)
    judged = [
        judge_service(name, lineups.of(name), instances, now)
        for name, instances in by_service.items()
    ]
    return FleetDrift(tuple(sorted(judged, key=lambda each: each.rank)))


def list_rejections(
    environment: str, service: str | None = None, *, now: datetime
) -> Sequence[Rejection]:
    """Return which services reject what they should enforce, where and why.

    One query while nobody rejects anything, which is nearly always; four otherwise.
    """
    rejecting = reports_of(environment).filter(state="rejected")
    if service is not None:
        rejecting = rejecting.filter(instance__service_slug=service)
    services = set(rejecting.values_list("instance__service_slug", flat=True))
    if not services:
        return []
    as_of = read_reporting(environment, now=now).as_of
    return group_rejections(environment, fleet_drift(environment, services, now=as_of).services)


def read_reporting(environment: str, *, now: datetime) -> Reporting:
    """Return when any instance was last reported, and what to judge by; one query."""
    newest: datetime | None = (
        InstanceReport.objects.filter(instance__environment=environment)
        .order_by("-instance__last_seen_at")  # its index ends the search at the first
        .values_list("instance__last_seen_at", flat=True)
        .first()
    )
    if newest is None or now - newest > SILENCE_DOUBTED_FOR:
        return Reporting(newest_at=None, as_of=now)
    is_stale = newest <= now - LIVE_WITHIN
    return Reporting(newest_at=newest, as_of=newest if is_stale else now, is_stale=is_stale)

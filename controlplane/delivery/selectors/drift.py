"""Who enforces something else than it should, over the whole fleet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max

from controlplane.delivery.domain.drift import (
    GONE_AFTER,
    Enforcing,
    Rejection,
    ServiceDrift,
    group_rejections,
    judge_service,
)
from controlplane.delivery.models import InstanceReport
from controlplane.delivery.selectors.rows import enforcing, read_lineups, reports_of


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


def fleet_drift(environment: str, service: str | None = None, *, now: datetime) -> FleetDrift:
    """Judge every instance seen in the last quarter of an hour; two queries."""
    lineups = read_lineups(environment)
    reports = reports_of(environment).filter(instance__last_seen_at__gt=now - GONE_AFTER)
    if service is not None:
        reports = reports.filter(instance__service_slug=service)
    by_service: dict[str, list[Enforcing]] = defaultdict(list)
    for report in reports:
        by_service[report.instance.service_slug].append(enforcing(report))
    judged = [
        judge_service(name, lineups.of(name), instances, now)
        for name, instances in by_service.items()
    ]
    return FleetDrift(tuple(sorted(judged, key=lambda each: each.rank)))


def list_rejections(
    environment: str, service: str | None = None, *, now: datetime
) -> Sequence[Rejection]:
    """Return which services reject what they should enforce, where and why; two queries."""
    return group_rejections(environment, fleet_drift(environment, service, now=now).services)


def newest_sighting(environment: str) -> datetime | None:
    """Return when any instance was last reported; None when none ever was; one query."""
    found: datetime | None = InstanceReport.objects.filter(
        instance__environment=environment
    ).aggregate(newest=Max("instance__last_seen_at"))["newest"]
    return found

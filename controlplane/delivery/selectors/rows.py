"""Rows of delivery as values of its domain; each reader is one query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from django.db.models import QuerySet

from controlplane.delivery.domain.convergence import Answered, InstanceState
from controlplane.delivery.domain.drift import Enforcing
from controlplane.delivery.domain.etags import claimed_position
from controlplane.delivery.domain.served import Lineup, Served, line_up
from controlplane.delivery.domain.snapshot import FLEET_DEFAULT
from controlplane.delivery.models import Acknowledgement, InstanceReport
from controlplane.policies.models import Publication
from controlplane.policies.selectors.publications import list_current_publications

NOTHING = Lineup(stable=None)


class Lineups:
    """What each service of one environment is served; one that nobody registered, the default."""

    def __init__(self, by_service: Mapping[str, Lineup]) -> None:
        self._by_service = by_service

    def of(self, service: str) -> Lineup:
        """Return what a service is served; nothing before the first publication."""
        own = self._by_service.get(service)
        return own or replace(self._by_service.get(FLEET_DEFAULT, NOTHING), is_own=False)


def read_lineups(environment: str) -> Lineups:
    """Return the newest publications of every service."""
    by_service: dict[str, list[Served]] = defaultdict(list)
    for row in list_current_publications(environment):
        by_service[row.service_slug].append(served(row))
    return Lineups({service: line_up(rows) for service, rows in by_service.items()})


def served(publication: Publication) -> Served:
    """Return a publication without its policies."""
    return Served(
        sequence=publication.sequence,
        issued_at=publication.issued_at,
        switches_at=tuple(datetime.fromisoformat(step["at"]) for step in publication.scheduled),
        cohort=publication.cohort,
        ratio=publication.ratio or 0.0,
        salt=publication.salt,
    )


def reports_of(environment: str) -> QuerySet[InstanceReport]:
    """Return what the instances of an environment last said, by service and instance."""
    return (
        InstanceReport.objects.filter(instance__environment=environment)
        .select_related("instance")
        .order_by("instance__service_slug", "instance__instance_id")
    )


def known_instances(environment: str, services: Iterable[str]) -> dict[str, list[InstanceState]]:
    """Return the instances of services that are not forgotten yet, by service."""
    found: dict[str, list[InstanceState]] = defaultdict(list)
    for report in reports_of(environment).filter(instance__service_slug__in=list(services)):
        found[report.instance.service_slug].append(_state(report))
    return found


def enforcing(report: InstanceReport) -> Enforcing:
    """Return what one instance last said it enforces."""
    return Enforcing(
        service=report.instance.service_slug,
        instance_id=report.instance.instance_id,
        etag=report.etag,
        sequence=report.sequence,
        step=report.step,
        is_rejecting=report.state == "rejected",
        rejected_sequence=_claimed_sequence(report.rejected_etag),
        rejected_at=report.rejected_at,
        reason=report.reason,
        first_seen_at=report.instance.first_seen_at,
        last_seen_at=report.instance.last_seen_at,
    )


def answers_to(
    environment: str, sequences: Sequence[int], service: str | None = None
) -> dict[int, list[Answered]]:
    """Return what each instance did with publications, by sequence."""
    found = Acknowledgement.objects.filter(environment=environment, sequence__in=sequences)
    if service is not None:
        found = found.filter(service_slug=service)
    moments: dict[tuple[int, str], dict[str, datetime]] = defaultdict(dict)
    reasons: dict[tuple[int, str], str] = {}
    rows = found.order_by("at").values_list("sequence", "instance_id", "outcome", "reason", "at")
    for sequence, instance_id, outcome, reason, at in rows:
        moments[sequence, instance_id][f"{outcome}_at"] = at
        if reason:
            reasons[sequence, instance_id] = reason
    answers: dict[int, list[Answered]] = defaultdict(list)
    for (sequence, instance_id), when in moments.items():
        answers[sequence].append(
            Answered(instance_id, reason=reasons.get((sequence, instance_id), ""), **when)
        )
    return answers


def _state(report: InstanceReport) -> InstanceState:
    return InstanceState(
        instance_id=report.instance.instance_id,
        first_seen_at=report.instance.first_seen_at,
        last_seen_at=report.instance.last_seen_at,
        sequence=report.sequence,
        rejected_sequence=_claimed_sequence(report.rejected_etag),
        reason=report.reason,
    )


def _claimed_sequence(etag: str) -> int | None:
    claimed = claimed_position(etag)
    return claimed[0] if claimed else None

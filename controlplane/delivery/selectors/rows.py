"""Rows of delivery as values of its domain; each reader is one query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from controlplane.delivery.domain.convergence import Answered, InstanceState
from controlplane.delivery.domain.drift import Enforcing
from controlplane.delivery.domain.etags import claimed_position
from controlplane.delivery.domain.served import Lineup, Served, lineup_of
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

    def split(self) -> set[str]:
        """Return the services with a canary that reaches somebody."""
        return {
            service
            for service, lineup in self._by_service.items()
            if lineup.canary is not None and lineup.canary.ratio > 0.0
        }


def read_lineups(environment: str) -> Lineups:
    """Return the newest publications of every service."""
    by_service: dict[str, list[Served]] = defaultdict(list)
    for row in list_current_publications(environment):
        by_service[row.service_slug].append(served(row))
    return Lineups({service: lineup_of(rows) for service, rows in by_service.items()})


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
    rows = reports_of(environment).filter(instance__service_slug__in=list(services))
    for service, name, first_seen_at, last_seen_at, sequence, refused, reason in rows.values_list(
        "instance__service_slug",
        "instance__instance_id",
        "instance__first_seen_at",
        "instance__last_seen_at",
        "sequence",
        "rejected_etag",
        "reason",
    ):
        found[service].append(
            InstanceState(
                instance_id=name,
                first_seen_at=first_seen_at,
                last_seen_at=last_seen_at,
                sequence=sequence,
                rejected_sequence=_claimed_sequence(refused),
                reason=reason,
            )
        )
    return found


def enforcing_by_service(
    environment: str, services: Collection[str] | None, *, seen_after: datetime
) -> dict[str, list[Enforcing]]:
    """Return what instances last said they enforce, by service; of all services when None."""
    found: dict[str, list[Enforcing]] = defaultdict(list)
    rows = reports_of(environment).filter(instance__last_seen_at__gt=seen_after)
    if services is not None:
        rows = rows.filter(instance__service_slug__in=services)
    for (
        service,
        name,
        etag,
        sequence,
        step,
        state,
        refused,
        refused_at,
        reason,
        first,
        last,
    ) in rows.values_list(
        "instance__service_slug",
        "instance__instance_id",
        "etag",
        "sequence",
        "step",
        "state",
        "rejected_etag",
        "rejected_at",
        "reason",
        "instance__first_seen_at",
        "instance__last_seen_at",
    ):
        found[service].append(
            Enforcing(
                service=service,
                instance_id=name,
                etag=etag,
                sequence=sequence,
                step=step,
                is_rejecting=state == "rejected",
                rejected_sequence=_claimed_sequence(refused),
                rejected_at=refused_at,
                reason=reason,
                first_seen_at=first,
                last_seen_at=last,
            )
        )
    return found


def answers_to(
    environment: str, sequences: Sequence[int], service: str | None = None
) -> dict[int, list[Answered]]:
    """Return what each instance did with publications, by sequence."""
    found = Acknowledgement.objects.filter(environment=environment, sequence__in=sequences)
    if service is not None:
        found = found.filter(service_slug=service)
    folded: dict[int, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    rows = found.values_list("sequence", "instance_id", "outcome", "reason", "at")
    for sequence, instance_id, outcome, reason, at in rows:
        fields = folded[sequence][instance_id]
        fields[f"{outcome}_at"] = at
        if reason:
            fields["reason"] = reason
    answers: dict[int, list[Answered]] = defaultdict(list)
    for sequence, by_instance in folded.items():
        answers[sequence] = [Answered(name, **fields) for name, fields in by_instance.items()]
    return answers


def _claimed_sequence(etag: str) -> int | None:
    if not etag:
        return None
    claimed = claimed_position(etag)
    return claimed[0] if claimed else None

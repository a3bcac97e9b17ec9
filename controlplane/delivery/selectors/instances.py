"""Who runs which publication, who is behind, and how long a publication took to spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count

from controlplane.delivery.domain.convergence import (
    LIVE_WITHIN,
    Answered,
    Convergence,
    InstanceState,
    measure_convergence,
)
from controlplane.delivery.domain.served import Lineup, Served
from controlplane.delivery.domain.snapshot import FLEET_DEFAULT
from controlplane.delivery.models import InstanceReport
from controlplane.delivery.selectors.rows import (
    Lineups,
    answers_to,
    known_instances,
    read_lineups,
    reports_of,
    served,
)
from controlplane.kernel.errors import NotFound
from controlplane.policies.models import Publication
from controlplane.policies.selectors.publications import list_publications_by_sequence


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """One instance and what it enforces. `sequence` is None when it named an etag not of ours."""

    service: str
    instance_id: str
    sequence: int | None
    etag: str
    state: str
    reason: str
    last_seen_at: datetime
    is_live: bool
    is_current: bool
    first_seen_at: datetime
    applied_at: datetime | None
    fetched_at: datetime | None
    sdk: str


def list_instances(
    environment: str, service: str | None = None, *, now: datetime
) -> list[InstanceRow]:
    """Return every known instance, by service and instance; two queries."""
    lineups = read_lineups(environment)
    reports = reports_of(environment)
    if service is not None:
        reports = reports.filter(instance__service_slug=service)
    return [_row(report, lineups, now) for report in reports]


def fleet_convergence(environment: str, *, now: datetime) -> dict[str, tuple[int, int]]:
    """Return (instances on the newest publication, live instances) by service.

    Services without a live instance are absent. Two queries that the database adds up, and one
    that reads the instances of services with a canary, if there are any.
    """
    lineups = read_lineups(environment)
    split = lineups.split()
    counts: dict[str, tuple[int, int]] = {}

    def add(service: str, expected: Served | None, sequence: int | None, count: int) -> None:
        current, live = counts.get(service, (0, 0))
        is_current = expected is not None and sequence == expected.sequence
        counts[service] = (current + count * is_current, live + count)

    live = reports_of(environment).filter(instance__last_seen_at__gt=now - LIVE_WITHIN)
    rows = live.exclude(instance__service_slug__in=split).order_by()
    grouped = rows.values_list("instance__service_slug", "sequence").annotate(count=Count("pk"))
    for service, sequence, count in grouped:
        add(service, lineups.of(service).stable, sequence, count)
    if split:
        parts = live.filter(instance__service_slug__in=split)
        for service, name, sequence in parts.values_list(
            "instance__service_slug", "instance__instance_id", "sequence"
        ):
            add(service, lineups.of(service).for_instance(name), sequence, 1)
    return counts


def convergence(environment: str, service: str, sequence: int, *, now: datetime) -> Convergence:
    """Return how far a publication has spread over the live instances of `service`; four queries.

    Raises:
        NotFound: `environment` has no publication with that sequence for this service.
    """
    for publication in list_publications_by_sequence([sequence]):
        if publication.environment == environment and publication.service_slug in (service, ""):
            known = known_instances(environment, [service])
            return _measure(
                publication,
                read_lineups(environment).of(service),
                known[service],
                answers_to(environment, [sequence], service)[sequence],
                now,
            )
    raise NotFound(f"{service} has no publication {sequence} in {environment}", field="sequence")


def convergence_many(
    environment: str, sequences: Sequence[int], *, now: datetime
) -> dict[int, Convergence]:
    """Return the convergence of several publications, whatever their services; four queries.

    Unknown sequences are absent. The publication of a fleet default itself counts no instances:
    the services it changed each have a publication of their own.
    """
    publications = [
        publication
        for publication in list_publications_by_sequence(sequences)
        if publication.environment == environment
    ]
    return measure_many(environment, publications, read_lineups(environment), now=now)


def measure_many(
    environment: str, publications: Sequence[Publication], lineups: Lineups, *, now: datetime
) -> dict[int, Convergence]:
    """Return the convergence of publications by sequence; two queries."""
    services = sorted({publication.service_slug for publication in publications} - {FLEET_DEFAULT})
    known = known_instances(environment, services)
    answers = answers_to(environment, [publication.sequence for publication in publications])
    return {
        publication.sequence: _measure(
            publication,
            lineups.of(publication.service_slug),
            known[publication.service_slug],
            answers[publication.sequence],
            now,
        )
        for publication in publications
    }


def _measure(
    publication: Publication,
    lineup: Lineup,
    known: Iterable[InstanceState],
    answers: Iterable[Answered],
    now: datetime,
) -> Convergence:
    published = served(publication)
    return measure_convergence(
        sequence=publication.sequence,
        published_at=publication.issued_at,
        known=[each for each in known if lineup.is_for(published, each.instance_id)],
        answers=answers,
        now=now,
    )


def _row(report: InstanceReport, lineups: Lineups, now: datetime) -> InstanceRow:
    instance = report.instance
    expected = lineups.of(instance.service_slug).for_instance(instance.instance_id)
    return InstanceRow(
        service=instance.service_slug,
        instance_id=instance.instance_id,
        sequence=report.sequence,
        etag=report.etag,
        state=report.state,
        reason=report.reason,
        last_seen_at=instance.last_seen_at,
        is_live=instance.last_seen_at > now - LIVE_WITHIN,
        is_current=expected is not None and report.sequence == expected.sequence,
        first_seen_at=instance.first_seen_at,
        applied_at=report.applied_at,
        fetched_at=report.fetched_at,
        sdk=report.sdk,
    )

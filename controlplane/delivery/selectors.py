"""Who runs which publication, who is behind, and how long a publication took to spread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, Q, QuerySet

from controlplane.delivery.domain.convergence import (
    LIVE_WITHIN,
    Answered,
    Convergence,
    InstanceState,
    measure_convergence,
)
from controlplane.delivery.domain.etags import claimed_position
from controlplane.delivery.domain.snapshot import FLEET_DEFAULT
from controlplane.delivery.models import Acknowledgement, InstanceReport, SigningKey
from controlplane.kernel.errors import NotFound
from controlplane.policies.selectors.publications import (
    list_newest_positions,
    list_publications_by_sequence,
)


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
    newest = list_newest_positions(environment)
    reports = _reports(environment)
    if service is not None:
        reports = reports.filter(instance__service_slug=service)
    return [_row(report, newest, now) for report in reports]


def fleet_convergence(environment: str, *, now: datetime) -> dict[str, tuple[int, int]]:
    """Return (instances on the newest publication, live instances) by service; two queries.

    Services without a live instance are absent.
    """
    newest = list_newest_positions(environment)
    counts: dict[str, tuple[int, int]] = {}
    for report in _reports(environment).filter(instance__last_seen_at__gt=now - LIVE_WITHIN):
        row = _row(report, newest, now)
        current, live = counts.get(row.service, (0, 0))
        counts[row.service] = (current + row.is_current, live + 1)
    return counts


def convergence(environment: str, service: str, sequence: int, *, now: datetime) -> Convergence:
    """Return how far a publication has spread over the live instances of `service`.

    Raises:
        NotFound: `environment` has no publication with that sequence for this service.
    """
    for publication in list_publications_by_sequence([sequence]):
        if publication.environment == environment and publication.service_slug in (service, ""):
            live = _live_by_service(environment, now, [service])[service]
            return measure_convergence(
                sequence=sequence,
                published_at=publication.issued_at,
                live=live,
                answers=_answers(environment, [sequence], service)[sequence],
            )
    raise NotFound(f"{service} has no publication {sequence} in {environment}", field="sequence")


def convergence_many(
    environment: str, sequences: Sequence[int], *, now: datetime
) -> dict[int, Convergence]:
    """Return the convergence of several publications, whatever their services; three queries.

    Unknown sequences are absent. The publication of a fleet default itself counts no instances:
    the services it changed each have a publication of their own.
    """
    publications = [
        publication
        for publication in list_publications_by_sequence(sequences)
        if publication.environment == environment
    ]
    services = {publication.service_slug for publication in publications} - {""}
    live = _live_by_service(environment, now, sorted(services))
    answers = _answers(environment, [publication.sequence for publication in publications])
    return {
        publication.sequence: measure_convergence(
            sequence=publication.sequence,
            published_at=publication.issued_at,
            live=live[publication.service_slug],
            answers=answers[publication.sequence],
        )
        for publication in publications
    }


def list_signing_keys() -> list[SigningKey]:
    """Return every signing key, oldest first, withdrawn ones among them; one query."""
    return list(SigningKey.objects.order_by("id"))


def signing_keys_stamp() -> tuple[object, ...]:
    """Return a value that differs whenever what delivery reads of the keys may; one query.

    A key is only ever made or withdrawn; whatever else changes, changes along with that.
    """
    rows = SigningKey.objects.aggregate(
        count=Count("id"), withdrawn=Count("id", filter=~Q(withdrawn_at=None)), newest=Max("id")
    )
    return (rows["count"], rows["withdrawn"], rows["newest"])


def _reports(environment: str) -> QuerySet[InstanceReport]:
    return (
        InstanceReport.objects.filter(instance__environment=environment)
        .select_related("instance")
        .order_by("instance__service_slug", "instance__instance_id")
    )


def _row(report: InstanceReport, newest: Mapping[str, int], now: datetime) -> InstanceRow:
    instance = report.instance
    expected = newest.get(instance.service_slug, newest.get(FLEET_DEFAULT))
    return InstanceRow(
        service=instance.service_slug,
        instance_id=instance.instance_id,
        sequence=report.sequence,
        etag=report.etag,
        state=report.state,
        reason=report.reason,
        last_seen_at=instance.last_seen_at,
        is_live=instance.last_seen_at > now - LIVE_WITHIN,
        is_current=report.sequence is not None and report.sequence == expected,
        first_seen_at=instance.first_seen_at,
        applied_at=report.applied_at,
        fetched_at=report.fetched_at,
        sdk=report.sdk,
    )


def _live_by_service(
    environment: str, now: datetime, services: Iterable[str]
) -> dict[str, list[InstanceState]]:
    live: dict[str, list[InstanceState]] = defaultdict(list)
    reports = _reports(environment).filter(
        instance__last_seen_at__gt=now - LIVE_WITHIN, instance__service_slug__in=services
    )
    for report in reports:
        rejected = claimed_position(report.rejected_etag)
        live[report.instance.service_slug].append(
            InstanceState(
                instance_id=report.instance.instance_id,
                first_seen_at=report.instance.first_seen_at,
                sequence=report.sequence,
                rejected_sequence=rejected[0] if rejected else None,
                reason=report.reason,
            )
        )
    return live


def _answers(
    environment: str, sequences: Sequence[int], service: str | None = None
) -> dict[int, list[Answered]]:
    answers: dict[int, list[Answered]] = defaultdict(list)
    found = Acknowledgement.objects.filter(environment=environment, sequence__in=sequences)
    if service is not None:
        found = found.filter(service_slug=service)
    for answer in found.order_by("at"):
        answers[answer.sequence].append(
            Answered(answer.instance_id, answer.outcome == "applied", answer.at, answer.reason)
        )
    return answers

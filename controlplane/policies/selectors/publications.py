"""Reads of publications, as delivery needs them."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Max, Q

from controlplane.policies.models import Publication

_MAX_SEQUENCE = 2**63 - 1  # what the column holds; a larger one asked for names nothing


def newest_position() -> tuple[int, str]:
    """Return the highest sequence published so far and its entity tag; (0, "") for none."""
    rows = Publication.objects.order_by("-sequence").values_list("sequence", "etag")
    return rows.first() or (0, "")


def has_publication(sequence: int, etag: str) -> bool:
    """Say whether exactly this publication was made; one query."""
    return Publication.objects.filter(sequence=sequence, etag=etag).exists()


def list_newest_publications(*, after_sequence: int = 0) -> list[Publication]:
    """Return the newest publication of each cohort of each service and fleet default; one query.

    Only those after `after_sequence`: with what the caller already has, that is everything. They
    come in the order in which they can be served one after the other: first those to everybody,
    then the canaries, each by sequence. So what a canary's instances go back to is there before
    the canary's end, however many publications a caller skips.
    """
    newest = (
        Publication.objects.filter(sequence__gt=after_sequence)
        .order_by()
        .values("environment", "service_slug", "cohort")
        .annotate(highest=Max("sequence"))
        .values("highest")
    )
    return list(Publication.objects.filter(sequence__in=newest).order_by("cohort", "sequence"))


def list_publications_by_sequence(sequences: Iterable[int]) -> list[Publication]:
    """Return the publications with these sequences, oldest first, without policies; one query."""
    return list(
        Publication.objects.filter(sequence__in=[s for s in sequences if s <= _MAX_SEQUENCE])
        .defer("policy")
        .order_by("sequence")
    )


def list_current_publications(environment: str) -> list[Publication]:
    """Return what each cohort of each service is served now, without policies; one query.

    The fleet default is among them, with an empty `service_slug`.
    """
    newest = (
        Publication.objects.filter(environment=environment)
        .order_by()
        .values("service_slug", "cohort")
        .annotate(highest=Max("sequence"))
        .values("highest")
    )
    return list(Publication.objects.filter(sequence__in=newest).defer("policy"))


def list_publications(
    environment: str,
    *,
    service: str | None = None,
    before_sequence: int | None = None,
    limit: int,
) -> list[Publication]:
    """Return publications of services, newest first, without policies; one query.

    Those of the fleet default itself are left out, and those that only end a canary: both reach
    no instance. `before_sequence` pages back.
    """
    reaching = Q(cohort=Publication.STABLE) | Q(ratio__gt=0.0)
    found = Publication.objects.filter(reaching, environment=environment).exclude(service_slug="")
    if service is not None:
        found = found.filter(service_slug=service)
    if before_sequence is not None:
        found = found.filter(sequence__lt=min(before_sequence, _MAX_SEQUENCE))
    return list(found.defer("policy").order_by("-sequence")[:limit])


def latest_publication(environment_slug: str, service_slug: str) -> Publication | None:
    """Return what the config API serves for a service now; None when it has none of its own.

    `service_slug` is "" for the fleet default. The instances of a canary get another one. One
    query.
    """
    return (
        Publication.objects.filter(
            environment=environment_slug, service_slug=service_slug, cohort=Publication.STABLE
        )
        .order_by("-sequence")
        .first()
    )


def latest_canary_publication(environment_slug: str, service_slug: str) -> Publication | None:
    """Return the newest publication to the canary cohort of a service; None when it had none.

    It has ratio 0 when the canary is over. One query.
    """
    return (
        Publication.objects.filter(
            environment=environment_slug, service_slug=service_slug, cohort=Publication.CANARY
        )
        .order_by("-sequence")
        .first()
    )


def list_published_slugs(environment_slug: str) -> set[str]:
    """Return every service that has a publication, registered or not; "" is the fleet default."""
    rows = Publication.objects.filter(environment=environment_slug).order_by()
    return set(rows.values_list("service_slug", flat=True).distinct())

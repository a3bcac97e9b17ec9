"""Canaries: the one in force on a service, and any by its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.kernel.errors import NotFound
from controlplane.policies.models import Canary
from controlplane.policies.selectors.sources import read_sources
from controlplane.registry.models import Service


def find_canary_in_force(service: Service, *, now: datetime) -> Canary | None:
    """Return the canary of a service at `now`; None when there is none. One query."""
    return (
        Canary.objects.select_related("service__team", "service__environment")
        .filter(service=service, closed_at=None, ends_at__gt=now)
        .first()
    )


def get_canary_in_force(service: Service, *, now: datetime) -> Canary:
    """Return the canary of a service at `now`.

    Raises:
        NotFound: there is none, or it is over.
    """
    canary = find_canary_in_force(service, now=now)
    if canary is None:
        raise NotFound(f"{service} has no canary in force")
    return canary


def get_canary(canary_id: int) -> Canary:
    """Return a canary, in force or not, with its service, team and environment.

    Raises:
        NotFound: there is none of that number.
    """
    canary = (
        Canary.objects.select_related("service__team", "service__environment")
        .filter(pk=canary_id)
        .first()
    )
    if canary is None:
        raise NotFound(f"there is no canary {canary_id}")
    return canary


@dataclass(frozen=True, slots=True)
class CanaryRow:
    """One canary in force: the policy of its instances, and what everybody else has."""

    id: int
    service: str
    ratio: float
    salt: str
    reason: str
    author: str
    started_at: datetime
    ends_at: datetime
    policy: Mapping[str, Any]
    canary_policy: Mapping[str, Any]


def list_canaries_in_force(
    environment_slug: str, service_slug: str | None = None, *, now: datetime
) -> list[CanaryRow]:
    """Return canaries in force, oldest first, on one service or on all.

    One query, and four more for each canary.
    """
    canaries = Canary.objects.filter(
        service__environment__slug=environment_slug, closed_at=None, ends_at__gt=now
    )
    if service_slug is not None:
        canaries = canaries.filter(service__slug=service_slug)
    return [
        _row(canary, now)
        for canary in canaries.select_related("service__environment").order_by("id")
    ]


def _row(canary: Canary, now: datetime) -> CanaryRow:
    sources = read_sources(canary.service, now=now)
    return CanaryRow(
        id=canary.pk,
        service=canary.service.slug,
        ratio=canary.ratio,
        salt=canary.salt,
        reason=canary.reason,
        author=canary.author,
        started_at=canary.started_at,
        ends_at=canary.ends_at,
        policy=sources.resolve_at(now).policy,
        canary_policy=sources.resolve_canary_at(now).policy,
    )

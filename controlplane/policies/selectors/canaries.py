"""Canaries: the one in force on a service, and any by its number."""

from __future__ import annotations

from datetime import datetime

from controlplane.kernel.errors import NotFound
from controlplane.policies.models import Canary
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

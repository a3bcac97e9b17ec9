"""What is in force on a service, and from which layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.kernel.errors import NotFound
from controlplane.policies.domain.resolve import Layer, Resolved
from controlplane.policies.models import Override, PolicyVersion
from controlplane.policies.selectors.sources import (
    newest_fleet_default,
    read_fleet_sources,
    read_sources,
)
from controlplane.registry.models import Environment, Service


@dataclass(frozen=True, slots=True)
class OverrideRow:
    """One override in force."""

    id: int
    service: str
    patch: Mapping[str, Any]
    reason: str
    opened_by: str
    starts_at: datetime
    ends_at: datetime


def effective_policy(service: Service, now: datetime) -> Resolved:
    """Return the complete policy of a service at `now`, and where each value comes from.

    Three queries.
    """
    return read_sources(service, now=now).resolve_at(now)


def policy_layers(service: Service, now: datetime) -> list[Layer]:
    """Return the layers in force on a service, lowest first, without the built-in one."""
    return read_sources(service, now=now).layers_at(now)


def list_policy_layers(
    environment: Environment, service_slugs: Collection[str], now: datetime
) -> dict[str, list[Layer]]:
    """Return what `policy_layers` does for several services, by name; five queries."""
    return {
        slug: sources.layers_at(now)
        for slug, sources in read_fleet_sources(environment, now=now, only=service_slugs).items()
    }


def list_effective_policies(environment: Environment, now: datetime) -> dict[str, Resolved]:
    """Return the complete policy of every registered service, by name; four queries."""
    return {
        slug: sources.resolve_at(now)
        for slug, sources in read_fleet_sources(environment, now=now).items()
    }


def current_version(service: Service) -> PolicyVersion | None:
    """Return the version in force; None when the service has only the fleet default."""
    return PolicyVersion.objects.filter(service=service).order_by("-number").first()


def list_versions(
    service: Service, *, before_number: int | None = None, limit: int | None = None
) -> list[PolicyVersion]:
    """Return the versions of a service, newest first; one query."""
    versions = PolicyVersion.objects.filter(service=service).order_by("-number")
    if before_number is not None:
        versions = versions.filter(number__lt=before_number)
    return list(versions[:limit])


def get_version(service: Service, number: int) -> PolicyVersion:
    """Return one version of a service.

    Raises:
        NotFound: the service has no version of that number.
    """
    version = PolicyVersion.objects.filter(service=service, number=number).first()
    if version is None:
        raise NotFound(f"{service} has no version {number}", field="number")
    return version


def current_fleet_default(environment: Environment) -> PolicyVersion | None:
    """Return the fleet default in force; None when nobody published one."""
    return newest_fleet_default(environment)


def list_fleet_defaults(
    environment: Environment, *, before_number: int | None = None, limit: int | None = None
) -> list[PolicyVersion]:
    """Return the fleet defaults of an environment, newest first; one query."""
    versions = PolicyVersion.objects.filter(environment=environment, service=None)
    if before_number is not None:
        versions = versions.filter(number__lt=before_number)
    return list(versions.order_by("-number")[:limit])


def get_fleet_default(environment: Environment, number: int) -> PolicyVersion:
    """Return one fleet default of an environment.

    Raises:
        NotFound: there is none of that number.
    """
    version = PolicyVersion.objects.filter(
        environment=environment, service=None, number=number
    ).first()
    if version is None:
        raise NotFound(f"{environment} has no fleet default {number}", field="number")
    return version


def list_overrides_in_force(
    environment_slug: str, service_slug: str | None = None, *, now: datetime
) -> list[OverrideRow]:
    """Return overrides in force, oldest first, on one service or on all; one query."""
    overrides = Override.objects.filter(
        service__environment__slug=environment_slug, closed_at=None, ends_at__gt=now
    )
    if service_slug is not None:
        overrides = overrides.filter(service__slug=service_slug)
    return [
        OverrideRow(
            id=override.pk,
            service=override.service.slug,
            patch=override.patch,
            reason=override.reason,
            opened_by=override.opened_by,
            starts_at=override.starts_at,
            ends_at=override.ends_at,
        )
        for override in overrides.select_related("service").order_by("id")
    ]


def get_override(override_id: int) -> Override:
    """Return an override, in force or not, with its service, team and environment.

    Raises:
        NotFound: there is none of that number.
    """
    override = (
        Override.objects.select_related("service__team", "service__environment")
        .filter(pk=override_id)
        .first()
    )
    if override is None:
        raise NotFound(f"there is no override {override_id}")
    return override

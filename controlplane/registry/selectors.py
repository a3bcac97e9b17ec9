"""Reads of the registry: environments, services and what they consist of."""

from __future__ import annotations

from controlplane.kernel.errors import NotFound
from controlplane.registry.models import Environment, Service


def get_environment(slug: str) -> Environment:
    """Return an environment.

    Raises:
        NotFound: there is none of that name.
    """
    environment = Environment.objects.filter(slug=slug).first()
    if environment is None:
        raise NotFound(f"there is no environment {slug!r}", field="environment")
    return environment


def list_environments() -> list[Environment]:
    """Return every environment, oldest first; one query."""
    return list(Environment.objects.order_by("id"))


def get_service(environment_slug: str, service_slug: str) -> Service:
    """Return a service with its environment and team; one query.

    Raises:
        NotFound: the environment has no registered service of that name.
    """
    service = (
        Service.objects.select_related("environment", "team")
        .filter(environment__slug=environment_slug, slug=service_slug)
        .first()
    )
    if service is None:
        raise NotFound(
            f"{environment_slug} has no registered service {service_slug!r}", field="service"
        )
    return service


def list_services(environment_slug: str) -> list[Service]:
    """Return the services of an environment by name, with team, endpoints and dependencies.

    Three queries, however many services there are.
    """
    return list(
        Service.objects.select_related("environment", "team")
        .prefetch_related("endpoints", "dependencies__target")
        .filter(environment__slug=environment_slug)
        .order_by("slug")
    )


def list_service_headings(environment_slug: str) -> list[Service]:
    """Return the services of an environment by name, with their team only; one query."""
    return list(
        Service.objects.select_related("team")
        .filter(environment__slug=environment_slug)
        .order_by("slug")
    )

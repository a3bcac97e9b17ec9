"""What the registry adds to what Prometheus knows: silent services, and who is behind a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from django.db import DatabaseError

from controlplane.kernel.errors import NotFound
from controlplane.registry.selectors import list_services
from controlplane.telemetry.domain.assemble import Edge


@dataclass(frozen=True, slots=True)
class Fleet:
    """Registered services, and the service behind each dependency that has one."""

    services: tuple[str, ...] = ()
    targets: Mapping[Edge, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def callers_of(self, service: str) -> tuple[Edge, ...]:
        """Every registered edge that ends at `service`."""
        return tuple(edge for edge, target in self.targets.items() if target == service)


def read_fleet(environment: str) -> Fleet:
    """Return what is registered; nothing, with the reason, when the database does not answer."""
    try:
        services = list_services(environment)
        targets = {
            (service.slug, dependency.name): dependency.target.slug
            for service in services
            for dependency in service.dependencies.all()
            if dependency.target is not None
        }
    except NotFound:
        return Fleet()
    except DatabaseError as error:
        return Fleet(problems=("The database does not answer: " + str(error),))
    return Fleet(tuple(service.slug for service in services), targets)

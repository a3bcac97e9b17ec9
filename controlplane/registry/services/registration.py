"""Registering what exists: environments, services, endpoints and dependencies.

Each function leaves things as described, makes or changes only what differs, and writes one
audit entry when it did.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.db import IntegrityError, models, transaction

from controlplane.access.domain.actors import Actor
from controlplane.access.models import Team
from controlplane.access.services import audit
from controlplane.kernel.errors import Conflict, InvalidInput
from controlplane.kernel.ids import is_slug
from controlplane.registry.models import Dependency, Endpoint, Environment, Service

CRITICALITIES = ("critical_plus", "critical", "sheddable_plus", "sheddable")

_METHOD = re.compile(r"[A-Z]{1,10}")
_ROUTE = re.compile(r"/[\x21-\x7e]{0,199}")
_DIALECT = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,39})")
_Row = TypeVar("_Row", bound=models.Model)


def ensure_environment(*, actor: Actor, slug: str, name: str, now: datetime) -> Environment:
    """Return the environment of that slug, made or renamed if need be.

    Raises:
        Forbidden: the actor may not change the registry.
        InvalidInput: a bad slug or name.
    """
    actor.require("registry.change")
    _check_slug("slug", slug)
    _check_text("name", name, 120)
    return _ensure(
        find=lambda: Environment.objects.select_for_update().filter(slug=slug).first(),
        fresh=lambda: Environment(slug=slug),
        values={"name": name},
        noun="environment",
        actor=actor,
        now=now,
        where=(slug, ""),
    )


def register_service(
    *,
    actor: Actor,
    environment: Environment,
    slug: str,
    team: Team,
    tier: int = 2,
    description: str = "",
    runbook_url: str = "",
    dialect: str = "native",
    now: datetime,
) -> Service:
    """Return the service of that slug as described, registered or changed if need be.

    Raises:
        Forbidden: the actor may not change the registry of that team, or of the one it had.
        InvalidInput: a bad slug, tier, runbook address or dialect.
    """
    actor.require("registry.change", team.slug)
    _check_slug("slug", slug)
    _check_text("description", description, 2000, least=0)
    _check_service(tier, runbook_url, dialect)

    def found() -> Service | None:
        service = (
            Service.objects.select_for_update(of=("self",))
            .select_related("environment", "team")
            .filter(environment=environment, slug=slug)
            .first()
        )
        if service is not None:
            actor.require("registry.change", service.team.slug)
        return service

    return _ensure(
        find=found,
        fresh=lambda: Service(environment=environment, slug=slug, registered_at=now),
        values={
            "team": team,
            "tier": tier,
            "description": description,
            "runbook_url": runbook_url,
            "dialect": dialect,
        },
        noun="service",
        actor=actor,
        now=now,
        where=(environment.slug, slug),
    )


def ensure_endpoint(
    *,
    actor: Actor,
    service: Service,
    method: str,
    route: str,
    criticality: str = "critical",
    now: datetime,
) -> Endpoint:
    """Return the endpoint `METHOD /route` of a service, made or changed if need be.

    Raises:
        Forbidden: the actor may not change the registry of that team.
        InvalidInput: a bad method, route or criticality.
    """
    actor.require("registry.change", service.team.slug)
    if not _METHOD.fullmatch(method):
        raise InvalidInput(f"method {method!r} must be capital letters: POST", field="method")
    if not _ROUTE.fullmatch(route):
        raise InvalidInput(
            f"route {route!r} must start with / and have no spaces: /orders/{{id}}", field="route"
        )
    if criticality not in CRITICALITIES:
        raise InvalidInput(
            f"criticality {criticality!r} must be one of: {', '.join(CRITICALITIES)}",
            field="criticality",
        )
    return _ensure(
        find=lambda: (
            Endpoint.objects.select_for_update()
            .filter(service=service, method=method, route=route)
            .first()
        ),
        fresh=lambda: Endpoint(service=service, method=method, route=route),
        values={"criticality": criticality},
        noun="endpoint",
        actor=actor,
        now=now,
        where=(service.environment.slug, service.slug),
    )


def ensure_dependency(
    *, actor: Actor, service: Service, name: str, target: Service | None = None, now: datetime
) -> Dependency:
    """Return the dependency of a service, made or pointed elsewhere if need be.

    Args:
        name: as the policy and the metrics name it.
        target: the service behind it; None for something external.

    Raises:
        Forbidden: the actor may not change the registry of that team.
        InvalidInput: a bad name, a service of another environment, or the service itself.
    """
    actor.require("registry.change", service.team.slug)
    _check_slug("name", name)
    if target is not None and target.environment_id != service.environment_id:
        raise InvalidInput("a dependency stays within its environment", field="target")
    if target is not None and target.pk == service.pk:
        raise InvalidInput(f"{service} cannot depend on itself", field="target")
    return _ensure(
        find=lambda: (
            Dependency.objects.select_for_update(of=("self",))
            .select_related("target")
            .filter(service=service, name=name)
            .first()
        ),
        fresh=lambda: Dependency(service=service, name=name),
        values={"target": target},
        noun="dependency",
        actor=actor,
        now=now,
        where=(service.environment.slug, service.slug),
    )


def _ensure(
    *,
    find: Callable[[], _Row | None],
    fresh: Callable[[], _Row],
    values: Mapping[str, Any],
    noun: str,
    actor: Actor,
    now: datetime,
    where: tuple[str, str],
) -> _Row:
    try:
        with transaction.atomic():
            present = find()
            row = present if present is not None else fresh()
            changes = {
                name: {
                    "before": _plain(getattr(row, name)) if present is not None else None,
                    "after": _plain(value),
                }
                for name, value in values.items()
                if present is None or getattr(row, name) != value
            }
            if not changes:
                return row
            for name, value in values.items():
                setattr(row, name, value)
            row.save()
            audit.record(
                actor=actor,
                action=f"{noun}.registered" if present is None else f"{noun}.changed",
                subject=f"{noun}:{row}",
                at=now,
                environment=where[0],
                service=where[1],
                data={"changes": changes},
            )
    except IntegrityError:
        # The unique constraint decided who registered it first.
        raise Conflict(f"somebody registered the same {noun} at the same moment") from None
    return row


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _check_slug(field: str, value: str) -> None:
    if not is_slug(value):
        raise InvalidInput(
            f"{field} {value!r} must be 1 to 63 lower-case letters, digits and inner hyphens",
            field=field,
        )


def _check_text(field: str, value: str, most: int, *, least: int = 1) -> None:
    if not least <= len(value.strip()) <= most or "\x00" in value:
        raise InvalidInput(f"{field} must have {least} to {most} characters", field=field)


def _check_service(tier: int, runbook_url: str, dialect: str) -> None:
    if isinstance(tier, bool) or not isinstance(tier, int) or not 1 <= tier <= 4:
        raise InvalidInput("tier must be 1 (most critical) to 4", field="tier")
    if not _DIALECT.fullmatch(dialect):
        raise InvalidInput("dialect must name a metric dialect, such as native", field="dialect")
    if runbook_url:
        try:
            URLValidator(schemes=["http", "https"])(runbook_url)
        except ValidationError:
            raise InvalidInput(
                "runbook_url must be an http or https address", field="runbook_url"
            ) from None

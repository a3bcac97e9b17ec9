"""What the demo starts with: teams, services, policies, objectives, logins and tokens.

Idempotent: what exists is left as its users have changed it; only what is missing is made.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from controlplane.access.domain.actors import Actor, system_actor
from controlplane.access.domain.roles import Role
from controlplane.access.selectors import find_token
from controlplane.access.services.memberships import ensure_team, grant_role
from controlplane.access.services.tokens import create_operator_token, create_service_token
from controlplane.kernel.errors import Forbidden
from controlplane.policies.selectors import current_fleet_default, current_version
from controlplane.policies.services import publish_fleet_default, publish_version
from controlplane.registry.models import Environment, Service
from controlplane.registry.services.registration import (
    ensure_dependency,
    ensure_endpoint,
    ensure_environment,
    register_service,
)
from controlplane.slo.services.objectives import ensure_default_objectives
from demo.fleet import ENVIRONMENT, FleetService
from demo.policies import EDGE_POLICY, FLEET_DEFAULT, POLICIES

PASSWORD = "tidegate-demo"  # noqa: S105 - well known on purpose, and refused outside the demo
LOGINS = {"viewer": Role.VIEWER, "oncall": Role.OPERATOR, "admin": Role.ADMIN}
TEAM_NAMES = {
    "edge": "Edge",
    "commerce": "Commerce",
    "payments": "Payments",
    "discovery": "Discovery",
}
RUNBOOK = "https://runbooks.example/{service}"
REASON = "first policy of the demo"


@dataclass(frozen=True, slots=True)
class Seed:
    """Who seeds, and when."""

    actor: Actor
    now: datetime
    shapes: Sequence[FleetService]


def seed_demo(*, state_dir: Path, now: datetime, shapes: Sequence[FleetService]) -> None:
    """Make everything the demo needs that is not there yet.

    Args:
        shapes: the services it consists of.

    Raises:
        Forbidden: these settings are not for a demo: its passwords are public.
    """
    if not settings.TIDEGATE_ALLOW_DEMO:
        raise Forbidden("the demo's logins are public; these settings do not allow them")
    seed = Seed(system_actor("demo seed"), now, shapes)
    with transaction.atomic():
        environment = ensure_environment(
            actor=seed.actor, slug=ENVIRONMENT, name="Production", now=now
        )
        services = _register_fleet(seed, environment)
        _publish_policies(seed, environment, services)
        for service in services.values():
            ensure_default_objectives(service, now)
        users = {name: _ensure_login(seed, name, role) for name, role in LOGINS.items()}
        tokens = _missing_tokens(seed, state_dir / "tokens", users["oncall"])
    # Only now: a token file for a row that was rolled back would open nothing.
    for path, text in tokens.items():
        _write_private(path, text)


def _register_fleet(seed: Seed, environment: Environment) -> dict[str, Service]:
    services = {shape.name: _register(seed, environment, shape) for shape in seed.shapes}
    for shape in seed.shapes:
        for name in shape.calls:
            ensure_dependency(
                actor=seed.actor,
                service=services[shape.name],
                name=name,
                target=services[name],
                now=seed.now,
            )
    return services


def _register(seed: Seed, environment: Environment, shape: FleetService) -> Service:
    team = ensure_team(actor=seed.actor, slug=shape.team, name=TEAM_NAMES[shape.team], now=seed.now)
    service = register_service(
        actor=seed.actor,
        environment=environment,
        slug=shape.name,
        team=team,
        tier=shape.tier,
        description=shape.description,
        runbook_url=RUNBOOK.format(service=shape.name),
        now=seed.now,
    )
    for endpoint in shape.endpoints:
        ensure_endpoint(
            actor=seed.actor,
            service=service,
            method=endpoint.method,
            route=endpoint.route,
            criticality=endpoint.criticality,
            now=seed.now,
        )
    return service


def _publish_policies(seed: Seed, environment: Environment, services: dict[str, Service]) -> None:
    if current_fleet_default(environment) is None:
        publish_fleet_default(
            actor=seed.actor,
            environment=environment,
            document=FLEET_DEFAULT,
            reason=REASON,
            now=seed.now,
        )
    for name, service in services.items():
        if current_version(service) is None:
            publish_version(
                actor=seed.actor,
                service=service,
                document={"edge": EDGE_POLICY, **POLICIES}[name],
                reason=REASON,
                now=seed.now,
            )


def _ensure_login(seed: Seed, name: str, role: Role) -> User:
    user = User.objects.filter(username=name).first()
    if user is None:
        user = User.objects.create_user(username=name, password=PASSWORD)
        grant_role(actor=seed.actor, user=user, role=role, team=None, reason=REASON, now=seed.now)
    return user


def _missing_tokens(seed: Seed, folder: Path, oncall: User) -> dict[Path, str]:
    """Make the tokens whose files are missing or hold a token that is not live; path to text."""
    made: dict[Path, str] = {}
    for shape in seed.shapes:
        path = folder / shape.name
        if not _holds_live_token(path, seed.now):
            _, made[path] = create_service_token(
                actor=seed.actor,
                environment=ENVIRONMENT,
                service=shape.name,
                label="demo",
                now=seed.now,
            )
    path = folder / "operator"
    if not _holds_live_token(path, seed.now):
        _, made[path] = create_operator_token(
            actor=seed.actor, user=oncall, label="demo", now=seed.now
        )
    return made


def _holds_live_token(path: Path, now: datetime) -> bool:
    try:
        return find_token(path.read_text().strip(), now=now) is not None
    except OSError:
        return False


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.writing")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    scratch.replace(path)

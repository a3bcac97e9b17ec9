"""Actors with one role, for tests that ask who may do what."""

from __future__ import annotations

from controlplane.access.domain.actors import Actor, Grant
from controlplane.access.domain.roles import Role


def actor_with(role: Role, team: str | None = None, name: str = "oncall") -> Actor:
    return Actor(name=name, kind="user", grants=(Grant(role, team),), request_id="night-42")


VIEWER = actor_with(Role.VIEWER, name="viewer")
OPERATOR = actor_with(Role.OPERATOR)
ADMIN = actor_with(Role.ADMIN, name="admin")
NOBODY = Actor(name="nobody", kind="user", grants=())

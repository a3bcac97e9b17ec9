"""The table of roles and actions: the only place that says what a role may do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Role(StrEnum):
    """What somebody is to a team, or to every team."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


_OPERATOR_ACTIONS = frozenset(
    {
        "override.open",
        "override.extend",
        "override.revert",
        "version.publish",
        "canary.start",
        "canary.widen",
        "canary.promote",
        "canary.end",
    }
)
_ADMIN_ACTIONS = frozenset(
    {"fleet_default.publish", "registry.change", "token.manage", "role.grant", "signing_key.manage"}
)

# Besides these, every role may do every action that ends in `.read`.
ROLE_ACTIONS: Mapping[Role, frozenset[str]] = {
    Role.VIEWER: frozenset({"*.read"}),
    Role.OPERATOR: frozenset({"*.read"}) | _OPERATOR_ACTIONS,
    Role.ADMIN: frozenset({"*.read"}) | _OPERATOR_ACTIONS | _ADMIN_ACTIONS,
}


def is_read(action: str) -> bool:
    """Return whether an action only looks."""
    return action.endswith(".read")


def role_allows(role: Role, action: str) -> bool:
    """Return whether a role may do an action, on the teams it is granted for."""
    return action in ROLE_ACTIONS[role] or (is_read(action) and "*.read" in ROLE_ACTIONS[role])

"""Who asks: a user, a token or the system itself, with the roles they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from controlplane.access.domain.roles import Role, is_read, role_allows
from controlplane.kernel.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Grant:
    """A role on one team; on every team when `team` is None."""

    role: Role
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, as the audit log names them."""

    name: str
    kind: Literal["user", "token", "system"]
    grants: tuple[Grant, ...]
    request_id: str = ""

    def may(self, action: str, team_slug: str | None = None) -> bool:
        """Return whether the actor may do `action` on what `team_slug` owns.

        None stands for what no team owns, such as the fleet default. Whoever holds any role may
        read everything: what fails one team's service is often another team's dependency.
        """
        return any(
            role_allows(grant.role, action)
            and (is_read(action) or grant.team is None or grant.team == team_slug)
            for grant in self.grants
        )

    def may_somewhere(self, action: str) -> bool:
        """Return whether there is any team for which the actor may do `action`."""
        return any(role_allows(grant.role, action) for grant in self.grants)

    def require(self, action: str, team_slug: str | None = None) -> None:
        """Return if the actor may do `action`.

        Raises:
            Forbidden: they may not; the sentence names the roles they hold and what is missing.
        """
        if not self.may(action, team_slug):
            where = f"team {team_slug}" if team_slug else "the whole fleet"
            held = ", ".join(
                f"{grant.role} of {grant.team or 'every team'}" for grant in self.grants
            )
            raise Forbidden(
                f"{self.name} may not do {action} for {where}; roles held: {held or 'none'}"
            )


def system_actor(name: str) -> Actor:
    """Return Tidegate itself, doing a job such as `seed` or `tidying`."""
    return Actor(name=name, kind="system", grants=(Grant(Role.ADMIN, None),))

"""Teams, and who has which role on them."""

from __future__ import annotations

import re
from datetime import datetime

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from controlplane.access.domain.actors import Actor
from controlplane.access.domain.roles import Role
from controlplane.access.models import Membership, Team
from controlplane.access.services import audit
from controlplane.kernel.errors import Conflict, InvalidInput, NotFound

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def ensure_team(*, actor: Actor, slug: str, name: str, now: datetime) -> Team:
    """Return the team of that slug with that name, made or renamed if need be.

    Raises:
        Forbidden: the actor may not change the registry.
        InvalidInput: the slug is not lower-case letters, digits and inner hyphens.
    """
    actor.require("registry.change")
    if not _SLUG.fullmatch(slug):
        raise InvalidInput(
            f"team {slug!r} must be 1 to 63 lower-case letters, digits and inner hyphens",
            field="slug",
        )
    with transaction.atomic():
        team, is_new = Team.objects.get_or_create(slug=slug, defaults={"name": name})
        if not is_new and team.name == name:
            return team
        before = None if is_new else team.name
        Team.objects.filter(pk=team.pk).update(name=name)
        team.name = name
        audit.record(
            actor=actor,
            action="team.created" if is_new else "team.renamed",
            subject=f"team:{slug}",
            at=now,
            data={"name": {"before": before, "after": name}},
        )
    return team


def grant_role(
    *, actor: Actor, user: User, role: str, team: Team | None, reason: str = "", now: datetime
) -> Membership:
    """Give a user a role on a team, or on every team when `team` is None.

    It replaces the role they had there; nothing happens when they have it already. A fleet-wide
    admin may also enter the admin pages.

    Raises:
        Forbidden: the actor may not grant roles on that team.
        InvalidInput: there is no such role.
        Conflict: somebody else changed the same membership at the same moment.
    """
    actor.require("role.grant", team.slug if team else None)
    if role not in set(Role):
        raise InvalidInput(f"role {role!r} must be one of: {', '.join(Role)}", field="role")
    try:
        with transaction.atomic():
            present = Membership.objects.select_for_update().filter(user=user, team=team).first()
            if present is not None and present.role == role:
                return present
            before = present.role if present else None
            membership = present or Membership(user=user, team=team)
            membership.role = role
            membership.save()
            if team is None:
                _let_into_admin_pages(user, is_admin=role == Role.ADMIN)
            _record(actor, "role.granted", user, team, before, role, reason, now)
    except IntegrityError:
        # one_role_per_user_and_team or one_fleet_wide_role_per_user decided who was first.
        raise Conflict(f"the roles of {user} changed at the same moment; look again") from None
    return membership


def revoke_role(
    *, actor: Actor, user: User, team: Team | None, reason: str = "", now: datetime
) -> None:
    """Take away the role a user has on a team, or on every team when `team` is None.

    Raises:
        Forbidden: the actor may not grant roles on that team.
        NotFound: the user has no role there.
    """
    actor.require("role.grant", team.slug if team else None)
    with transaction.atomic():
        present = Membership.objects.select_for_update().filter(user=user, team=team).first()
        if present is None:
            raise NotFound(f"{user} has no role on {team or 'every team'}")
        present.delete()
        if team is None:
            _let_into_admin_pages(user, is_admin=False)
        _record(actor, "role.revoked", user, team, present.role, None, reason, now)


def _let_into_admin_pages(user: User, *, is_admin: bool) -> None:
    user.is_staff = is_admin or user.is_superuser
    User.objects.filter(pk=user.pk).update(is_staff=user.is_staff)


def _record(
    actor: Actor,
    action: str,
    user: User,
    team: Team | None,
    before: str | None,
    after: str | None,
    reason: str,
    now: datetime,
) -> None:
    audit.record(
        actor=actor,
        action=action,
        subject=f"user:{user.get_username()}",
        at=now,
        reason=reason,
        data={"team": team.slug if team else None, "role": {"before": before, "after": after}},
    )

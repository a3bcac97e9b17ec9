"""Reads of access: actors, tokens, teams and the audit log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Count, Max, Q

from controlplane.access.domain.actors import Actor, Grant
from controlplane.access.domain.roles import Role
from controlplane.access.domain.tokens import hash_token, kind_of
from controlplane.access.models import AuditEntry, Membership, ServiceToken, Team
from controlplane.kernel.errors import NotFound


@dataclass(frozen=True, slots=True)
class ServiceTokenRow:
    """What delivery needs to know a service by its token."""

    token_hash: str
    environment: str
    service: str
    expires_at: datetime | None


def actor_for_user(user: User | AnonymousUser, request_id: str = "") -> Actor:
    """Return a user as an actor, with the roles they hold; one query.

    A superuser is an admin of every team. Somebody who is not signed in or not active has none.
    """
    return Actor(
        name=user.get_username() or "anonymous",
        kind="user",
        grants=_grants_of(user),
        request_id=request_id,
    )


def actor_for_token(token: ServiceToken, request_id: str = "") -> Actor:
    """Return an operator token as an actor: its user's roles, named `user/label`.

    Raises:
        NotFound: it is a service token, which belongs to no user.
    """
    if token.user is None:
        raise NotFound("a service token has no roles: it only opens the config API")
    return Actor(
        name=f"{token.user.get_username()}/{token.label}",
        kind="token",
        grants=_grants_of(token.user),
        request_id=request_id,
    )


def find_token(presented: str, *, now: datetime) -> ServiceToken | None:
    """Return the live token that was presented; None when unknown, revoked or expired."""
    if kind_of(presented) is None:
        return None
    return (
        ServiceToken.objects.select_related("user")
        .filter(_live(now), token_hash=hash_token(presented))
        .first()
    )


def list_service_token_rows(
    *,
    environment: str | None = None,
    service: str | None = None,
    before_id: int | None = None,
    limit: int = 50,
) -> list[ServiceToken]:
    """Return service tokens, newest first, ended ones among them; one query."""
    rows = ServiceToken.objects.filter(kind="service").order_by("-id")
    if environment is not None:
        rows = rows.filter(environment=environment)
    if service is not None:
        rows = rows.filter(service=service)
    if before_id is not None:
        rows = rows.filter(id__lt=before_id)
    return list(rows[:limit])


def get_service_token(token_id: int) -> ServiceToken:
    """Return a service token, ended or not.

    Raises:
        NotFound: there is none of that number.
    """
    token = ServiceToken.objects.filter(kind="service", pk=token_id).first()
    if token is None:
        raise NotFound(f"there is no service token {token_id}", field="id")
    return token


def list_rotatable_tokens(environment: str, service: str, *, now: datetime) -> list[ServiceToken]:
    """Return the live tokens of a service that have no successor yet, oldest first."""
    return list(
        ServiceToken.objects.filter(
            _live(now), kind="service", environment=environment, service=service, successor=None
        ).order_by("id")
    )


def list_service_tokens() -> list[ServiceTokenRow]:
    """Return every service token that is not revoked, with its expiry to compare; one query."""
    rows = ServiceToken.objects.filter(kind="service", revoked_at=None).order_by("id")
    return [
        ServiceTokenRow(*row)
        for row in rows.values_list("token_hash", "environment", "service", "expires_at")
    ]


def service_tokens_stamp() -> tuple[object, ...]:
    """Return a value that differs whenever `list_service_tokens` may; one query."""
    rows = ServiceToken.objects.filter(kind="service").aggregate(
        count=Count("id"), live=Count("id", filter=Q(revoked_at=None)), newest=Max("id")
    )
    return (rows["count"], rows["live"], rows["newest"])


def get_team(slug: str) -> Team:
    """Return a team.

    Raises:
        NotFound: there is none of that name.
    """
    team = Team.objects.filter(slug=slug).first()
    if team is None:
        raise NotFound(f"there is no team {slug!r}", field="team")
    return team


def list_entries(
    *,
    environment: str | None = None,
    services: Iterable[str] | None = None,
    actor: str | None = None,
    actions: Iterable[str] | None = None,
    since: datetime | None = None,
    before_number: int | None = None,
    limit: int = 50,
) -> list[AuditEntry]:
    """Return audit entries, newest first; one query.

    `actor` matches a user and the tokens of that user; `before_number` pages back.
    """
    entries = AuditEntry.objects.order_by("-number")
    if environment is not None:
        entries = entries.filter(environment=environment)
    if services is not None:
        entries = entries.filter(service__in=list(services))
    if actor is not None:
        entries = entries.filter(Q(actor=actor) | Q(actor__startswith=f"{actor}/"))
    if actions is not None:
        entries = entries.filter(action__in=list(actions))
    if since is not None:
        entries = entries.filter(at__gte=since)
    if before_number is not None:
        entries = entries.filter(number__lt=before_number)
    return list(entries[:limit])


def _grants_of(user: User | AnonymousUser) -> tuple[Grant, ...]:
    if not user.is_active or user.pk is None:
        return ()
    rows = Membership.objects.filter(user_id=user.pk).order_by("id")
    grants = tuple(Grant(Role(role), team) for role, team in rows.values_list("role", "team__slug"))
    return (Grant(Role.ADMIN, None), *grants) if user.is_superuser else grants


def _live(now: datetime) -> Q:
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))

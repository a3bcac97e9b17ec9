"""Bearer tokens: made once, shown once, stored as a hash, revoked at any time."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction

from controlplane.access.domain.actors import Actor
from controlplane.access.domain.tokens import TokenKind, hash_token, new_token
from controlplane.access.models import ServiceToken
from controlplane.access.services import audit
from controlplane.kernel.channels import Channel
from controlplane.kernel.errors import Conflict, InvalidInput
from controlplane.kernel.hints import hint_after_commit
from controlplane.kernel.ids import is_slug

MAX_LABEL_CHARACTERS = 80
DEFAULT_GRACE = timedelta(hours=24)
MIN_GRACE = timedelta(minutes=1)
MAX_GRACE = timedelta(days=30)


def create_service_token(
    *,
    actor: Actor,
    environment: str,
    service: str,
    label: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> tuple[ServiceToken, str]:
    """Make a token with which one service reads its policy; return it and its text.

    The service need not be registered yet. The text is not stored: show it once.

    Raises:
        Forbidden: the actor may not manage tokens.
        InvalidInput: what cannot name an environment or service, no label, or an end in the past.
    """
    actor.require("token.manage")
    for field, value in (("environment", environment), ("service", service)):
        # What is named otherwise can never be registered, so its token would open nothing.
        if not is_slug(value):
            raise InvalidInput(
                f"{field} {value!r} must be 1 to 63 lower-case letters, digits and inner hyphens",
                field=field,
            )
    text = new_token(TokenKind.SERVICE)
    token = ServiceToken(
        kind=TokenKind.SERVICE,
        token_hash=hash_token(text),
        environment=environment,
        service=service,
    )
    return _stored(token, actor, label, expires_at, now), text


def create_operator_token(
    *,
    actor: Actor,
    user: User,
    label: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> tuple[ServiceToken, str]:
    """Make a token that acts in the operator API with a user's roles; return it and its text.

    Raises:
        Forbidden: the actor may not manage tokens.
        InvalidInput: no label, or an end in the past.
    """
    actor.require("token.manage")
    text = new_token(TokenKind.OPERATOR)
    token = ServiceToken(kind=TokenKind.OPERATOR, token_hash=hash_token(text), user=user)
    return _stored(token, actor, label, expires_at, now), text


def revoke_token(*, actor: Actor, token: ServiceToken, now: datetime) -> ServiceToken:
    """Make a token worthless from now on; delivery forgets it within seconds.

    Raises:
        Forbidden: the actor may not manage tokens.
        Conflict: it was revoked before.
    """
    actor.require("token.manage")
    with transaction.atomic():
        revoked = ServiceToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now)
        if not revoked:
            raise Conflict(f"token {token.pk} was revoked before")
        _record(actor, "token.revoked", token, now)
        _hint(token)
    token.refresh_from_db()
    return token


def rotate_token(
    *, actor: Actor, token: ServiceToken, now: datetime, grace: timedelta = DEFAULT_GRACE
) -> tuple[ServiceToken, str]:
    """Make a successor of a token; return it and its text, which is shown once.

    Both work until `now + grace`, on every delivery node, so that whoever holds the old one can
    change over without a gap; then the old one ends. The successor opens the same, and lasts as
    long as the old one was made for.

    Args:
        grace: 1 minute to 30 days; an earlier end of the old token stays.

    Raises:
        Forbidden: the actor may not manage tokens.
        InvalidInput: a bad grace.
        Conflict: it was revoked, has expired, or was rotated before.
    """
    actor.require("token.manage")
    if not MIN_GRACE <= grace <= MAX_GRACE:
        raise InvalidInput("grace must be 1 minute to 30 days", field="grace")
    with transaction.atomic():
        old = ServiceToken.objects.select_for_update().get(pk=token.pk)
        _check_rotatable(old, now)
        text = new_token(TokenKind(old.kind))
        successor = ServiceToken(
            kind=old.kind,
            token_hash=hash_token(text),
            environment=old.environment,
            service=old.service,
            user=old.user,
        )
        lifetime = None if old.expires_at is None else old.expires_at - old.created_at
        expires_at = None if lifetime is None else now + lifetime
        _stored(successor, actor, old.label, expires_at, now)
        old.expires_at = min(old.expires_at or now + grace, now + grace)
        old.successor = successor
        # Compare and swap, for databases that do not lock the row above.
        rotated = ServiceToken.objects.filter(pk=old.pk, successor=None, revoked_at=None).update(
            successor=successor, expires_at=old.expires_at
        )
        if not rotated:
            raise Conflict(f"token {old.pk} was just revoked or rotated by somebody else")
        _record(actor, "token.rotated", old, now)
    token.refresh_from_db()
    return successor, text


def _check_rotatable(token: ServiceToken, now: datetime) -> None:
    if token.revoked_at is not None:
        raise Conflict(f"token {token.pk} was revoked; make a new one")
    if token.expires_at is not None and token.expires_at <= now:
        raise Conflict(f"token {token.pk} has expired; make a new one")
    if token.successor_id is not None:
        raise Conflict(f"token {token.pk} was rotated before: token {token.successor_id}")


def _stored(
    token: ServiceToken, actor: Actor, label: str, expires_at: datetime | None, now: datetime
) -> ServiceToken:
    if not 1 <= len(label.strip()) <= MAX_LABEL_CHARACTERS or not label.isprintable():
        raise InvalidInput(
            f"label must have 1 to {MAX_LABEL_CHARACTERS} printable characters", field="label"
        )
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("expires_at must lie in the future", field="expires_at")
    token.label = label.strip()
    token.created_at = now
    token.created_by = actor.name
    token.expires_at = expires_at
    with transaction.atomic():
        token.save(force_insert=True)
        _record(actor, "token.created", token, now)
        _hint(token)
    return token


def _record(actor: Actor, action: str, token: ServiceToken, now: datetime) -> None:
    audit.record(
        actor=actor,
        action=action,
        subject=f"token:{token.pk}",
        at=now,
        environment=token.environment,
        service=token.service,
        data={
            "kind": token.kind,
            "label": token.label,
            "user": token.user.get_username() if token.user else None,
            "expires_at": token.expires_at.isoformat() if token.expires_at else None,
            "successor": token.successor_id,
        },
    )


def _hint(token: ServiceToken) -> None:
    if token.kind == TokenKind.SERVICE:
        hint_after_commit(
            Channel.TOKENS, [{"environment": token.environment, "service": token.service}]
        )

"""Bearer tokens: made once, shown once, stored as a hash, revoked at any time."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from controlplane.access.domain.actors import Actor
from controlplane.access.domain.tokens import TokenKind, hash_token, new_token
from controlplane.access.models import ServiceToken
from controlplane.access.services import audit
from controlplane.kernel.channels import Channel
from controlplane.kernel.errors import Conflict, InvalidInput
from controlplane.kernel.hints import hint_after_commit

MAX_LABEL_CHARACTERS = 80


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
        InvalidInput: no environment, service or label, or an end in the past.
    """
    actor.require("token.manage")
    for field, value in (("environment", environment), ("service", service)):
        if not value or len(value) > 63:
            raise InvalidInput(f"{field} must have 1 to 63 characters", field=field)
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
        },
    )


def _hint(token: ServiceToken) -> None:
    if token.kind == TokenKind.SERVICE:
        hint_after_commit(
            Channel.TOKENS, [{"environment": token.environment, "service": token.service}]
        )

"""Bearer tokens: make them, recognise them, and store only their hash."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime
from enum import StrEnum


class TokenKind(StrEnum):
    """What a token opens."""

    SERVICE = "service"
    OPERATOR = "operator"


class TokenStatus(StrEnum):
    """What becomes of a token that is presented now."""

    LIVE = "live"
    ROTATED = "rotated"
    EXPIRED = "expired"
    REVOKED = "revoked"


PREFIXES = {TokenKind.SERVICE: "tgs_", TokenKind.OPERATOR: "tgo_"}
_TOKEN = re.compile(r"tg[so]_[A-Za-z0-9_-]{32,128}")


def token_status(
    *, revoked_at: datetime | None, expires_at: datetime | None, is_rotated: bool, now: datetime
) -> TokenStatus:
    """Return where a token stands; one that is rotated still works until it expires."""
    if revoked_at is not None:
        return TokenStatus.REVOKED
    if expires_at is not None and expires_at <= now:
        return TokenStatus.EXPIRED
    return TokenStatus.ROTATED if is_rotated else TokenStatus.LIVE


def new_token(kind: TokenKind) -> str:
    """Return a fresh token with 256 bits of randomness, such as `tgs_...`."""
    return PREFIXES[kind] + secrets.token_urlsafe(32)


def hash_token(text: str) -> str:
    """Return what is stored of a token: its SHA-256. Its randomness makes a salt needless."""
    return hashlib.sha256(text.encode()).hexdigest()


def kind_of(text: str) -> TokenKind | None:
    """Return what kind of token `text` looks like; None when it cannot be one of ours."""
    if not _TOKEN.fullmatch(text):
        return None
    return TokenKind.SERVICE if text.startswith(PREFIXES[TokenKind.SERVICE]) else TokenKind.OPERATOR

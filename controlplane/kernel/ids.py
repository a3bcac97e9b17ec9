"""Identifiers: make them, and decide which ones from outside may be used."""

from __future__ import annotations

import re
import secrets

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def new_request_id() -> str:
    """Return a fresh request ID: 32 hexadecimal characters."""
    return secrets.token_hex(16)


def is_request_id(text: str) -> bool:
    """Return whether `text` may be taken over as a request ID: safe in headers, logs and URLs."""
    return _REQUEST_ID.fullmatch(text) is not None


def is_slug(text: str) -> bool:
    """Return whether `text` may name an environment, a service or a dependency."""
    return _SLUG.fullmatch(text) is not None


def new_nonce() -> str:
    """Return eight random hexadecimal characters, to keep opaque tokens from being guessed."""
    return secrets.token_hex(4)

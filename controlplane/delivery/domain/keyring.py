"""Which signing key is in use when, and the list of keys that clients read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from controlplane.delivery.domain.compile import rfc3339
from controlplane.delivery.domain.jws import ALGORITHM


class KeyStatus(StrEnum):
    """Where a key stands now: it will sign, it signs, or it has signed."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Endorsement:
    """An older key's word for a younger one: a detached JWS over the younger one's JWK."""

    kid: str
    signature: str


@dataclass(frozen=True, slots=True)
class AnnouncedKey:
    """One signing key that was not withdrawn, its private part sealed."""

    kid: str
    x: str
    active_from_unix: float
    sealed: str
    endorsements: tuple[Endorsement, ...] = ()


def active_key(keys: Sequence[AnnouncedKey], now_unix: float) -> AnnouncedKey | None:
    """Return the key to sign with: of those whose time has come, the one whose came last.

    Of two from the same time the later in `keys` counts. A clock that is behind the time of every
    key still signs, with the first of them; None only when there are no keys.
    """
    chosen: AnnouncedKey | None = None
    for key in keys:
        if key.active_from_unix <= now_unix and (
            chosen is None or key.active_from_unix >= chosen.active_from_unix
        ):
            chosen = key
    return chosen or min(keys, key=lambda key: key.active_from_unix, default=None)


def next_switch_unix(keys: Sequence[AnnouncedKey], now_unix: float) -> float:
    """Return when the next key becomes the active one; infinity when none waits."""
    return min(
        (key.active_from_unix for key in keys if key.active_from_unix > now_unix), default=math.inf
    )


def status_of(key: AnnouncedKey, active: AnnouncedKey | None, now_unix: float) -> KeyStatus:
    """Return where a key stands, given the active one."""
    if key is active:
        return KeyStatus.ACTIVE
    return KeyStatus.NEXT if key.active_from_unix > now_unix else KeyStatus.RETIRED


def keys_document(keys: Sequence[AnnouncedKey], now_unix: float) -> dict[str, object]:
    """Return the JWK set (RFC 7517) of `/config/v1/keys`, oldest key first.

    An endorsement by a key that is not among `keys` was withdrawn with it.
    """
    active = active_key(keys, now_unix)
    known = {key.kid for key in keys}
    return {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": key.x,
                "kid": key.kid,
                "use": "sig",
                "alg": ALGORITHM,
                "status": status_of(key, active, now_unix).value,
                "not_before": rfc3339(datetime.fromtimestamp(key.active_from_unix, UTC)),
                "endorsements": [
                    {"kid": endorsement.kid, "signature": endorsement.signature}
                    for endorsement in key.endorsements
                    if endorsement.kid in known
                ],
            }
            for key in keys
        ]
    }

"""Which keys sign what is delivered, and where each stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db.models import Count, Max, Q

from controlplane.delivery.domain.keyring import AnnouncedKey, Endorsement, active_key, status_of
from controlplane.delivery.models import SigningKey
from controlplane.kernel.errors import NotFound

MAX_ANNOUNCED_KEYS = 64

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SigningKeyRow:
    """One signing key: `next`, `active`, `retired` or `withdrawn`, and which keys vouch for it."""

    kid: str
    x: str
    status: str
    created_at: datetime
    active_from: datetime
    retired_at: datetime | None
    withdrawn_at: datetime | None
    endorsed_by: tuple[str, ...]


def list_announced_keys() -> list[AnnouncedKey]:
    """Return the newest 64 signing keys that were not withdrawn, oldest first; one query.

    Clients read no longer list; after that many rotations nobody should pin the first any more.
    A row that somebody damaged by hand is said and left out: it must not stop the others.
    """
    newest = SigningKey.objects.filter(withdrawn_at=None).order_by("-id")[:MAX_ANNOUNCED_KEYS]
    announced = []
    for key in reversed(newest):
        try:
            announced.append(_announced(key))
        except (KeyError, TypeError) as error:
            logger.error("signing_key.unreadable", kid=key.kid, error=repr(error))
    return announced


def list_signing_keys(*, now: datetime) -> list[SigningKeyRow]:
    """Return every signing key, oldest first, withdrawn ones among them; one query."""
    rows = list(SigningKey.objects.order_by("id"))
    announced = {row.kid: _announced(row) for row in rows if row.withdrawn_at is None}
    active = active_key(tuple(announced.values()), now.timestamp())
    return [
        SigningKeyRow(
            kid=row.kid,
            x=row.x,
            status=(
                status_of(announced[row.kid], active, now.timestamp()).value
                if row.kid in announced
                else "withdrawn"
            ),
            created_at=row.created_at,
            active_from=row.active_from,
            retired_at=row.retired_at,
            withdrawn_at=row.withdrawn_at,
            endorsed_by=tuple(
                entry["kid"] for entry in row.endorsements if entry["kid"] in announced
            ),
        )
        for row in rows
    ]


def get_signing_key(kid: str, *, now: datetime) -> SigningKeyRow:
    """Return one signing key.

    Raises:
        NotFound: there is none of that name.
    """
    for row in list_signing_keys(now=now):
        if row.kid == kid:
            return row
    raise NotFound(f"there is no signing key {kid!r}", field="kid")


def signing_keys_stamp() -> tuple[object, ...]:
    """Return a value that differs whenever what delivery reads of the keys may; one query.

    A key is only ever made, withdrawn, or sealed anew together with all others; whatever else
    changes, changes along with that.
    """
    rows = SigningKey.objects.aggregate(
        count=Count("id"),
        withdrawn=Count("id", filter=~Q(withdrawn_at=None)),
        newest=Max("id"),
        sealed=Max("sealed_private"),
    )
    return (rows["count"], rows["withdrawn"], rows["newest"], rows["sealed"])


def _announced(key: SigningKey) -> AnnouncedKey:
    return AnnouncedKey(
        kid=key.kid,
        x=key.x,
        active_from_unix=key.active_from.timestamp(),
        sealed=key.sealed_private,
        endorsements=tuple(
            Endorsement(entry["kid"], entry["signature"]) for entry in key.endorsements
        ),
    )

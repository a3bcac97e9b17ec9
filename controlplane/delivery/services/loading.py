"""Publications and tokens from the database, as the values the hot path is filled with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.access.selectors import list_service_tokens, service_tokens_stamp
from controlplane.delivery.domain.keyring import AnnouncedKey
from controlplane.delivery.domain.snapshot import PublishedPolicy, ScheduledPolicy
from controlplane.delivery.hotpath.auth import TokenRecord
from controlplane.delivery.selectors import list_announced_keys, signing_keys_stamp
from controlplane.policies.models import Publication
from controlplane.policies.selectors.publications import (
    has_publication,
    list_newest_publications,
    newest_position,
)

Stamp = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """One publication, as a place in the history of all of them."""

    sequence: int
    etag: str


START = Position(0, "")


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new since the last look. `tokens` and `keys` are None when they have not changed.

    `reached`, `stamp` and `keys_stamp` say how far the look went; `newest` is the highest sequence
    that the database holds, lower than what was reached before when it went back in time.
    `is_everything` says that `publications` are those of all services, not only of those that
    changed. `unreadable` are rows that are no publication of ours, as (sequence, what is wrong).
    """

    publications: tuple[PublishedPolicy, ...]
    reached: Position
    newest: int
    tokens: tuple[TokenRecord, ...] | None
    stamp: Stamp | None
    is_everything: bool = False
    unreadable: tuple[tuple[int, str], ...] = ()
    keys: tuple[AnnouncedKey, ...] | None = None
    keys_stamp: Stamp | None = None


def read_changes(
    *, after: Position, stamp: Stamp | None, keys_stamp: Stamp | None = None
) -> Changes:
    """Return the newest publication of every cohort of a service, of those after `after`.

    They are in the order to serve them in: what everybody gets comes before the canaries.

    Publications become visible in the order of their sequences, so nothing below the highest one
    seen can turn up later; unless the database was restored from a backup and has gone on in
    another direction since. Then `after` is no longer part of its history, and everything is read.
    When nothing changed this costs three small queries.
    """
    # A stamp is read before what it stands for: what is made in between is read again, not missed.
    present_stamp = service_tokens_stamp()
    tokens = None if present_stamp == stamp else _token_records()
    present_keys_stamp = signing_keys_stamp()
    keys = None if present_keys_stamp == keys_stamp else tuple(list_announced_keys())
    newest, newest_etag = newest_position()
    if newest < after.sequence or (newest, newest_etag) == (after.sequence, after.etag):
        return Changes(
            (), after, newest, tokens, present_stamp, keys=keys, keys_stamp=present_keys_stamp
        )
    if after != START and not has_publication(after.sequence, after.etag):
        after = START
    publications: list[PublishedPolicy] = []
    unreadable: list[tuple[int, str]] = []
    rows = list_newest_publications(after_sequence=after.sequence)
    for row in rows:
        try:
            publications.append(published_policy(row))
        except (KeyError, TypeError, ValueError) as error:
            # One row that somebody damaged by hand must not keep the others from being served.
            unreadable.append((row.sequence, repr(error)))
    last = max(rows, key=lambda row: row.sequence, default=None)
    reached = after if last is None else Position(last.sequence, last.etag)
    return Changes(
        publications=tuple(publications),
        reached=reached,
        newest=max(newest, reached.sequence),
        tokens=tokens,
        stamp=present_stamp,
        is_everything=after == START,
        unreadable=tuple(unreadable),
        keys=keys,
        keys_stamp=present_keys_stamp,
    )


def published_policy(publication: Publication) -> PublishedPolicy:
    """Return a row of the publications table as a value."""
    return PublishedPolicy(
        environment=publication.environment,
        service=publication.service_slug,
        version=publication.version_number,
        sequence=publication.sequence,
        etag=publication.etag,
        issued_at=publication.issued_at,
        policy=publication.policy,
        scheduled=tuple(scheduled_policy(entry) for entry in publication.scheduled),
        cohort=publication.cohort,
        ratio=publication.ratio or 0.0,
        salt=publication.salt,
    )


def scheduled_policy(entry: Mapping[str, Any]) -> ScheduledPolicy:
    """Return one entry of a publication's `scheduled` as a value."""
    return ScheduledPolicy(
        at=datetime.fromisoformat(entry["at"]),
        reason=entry["reason"],
        etag=entry["etag"],
        policy=entry["policy"],
    )


def _token_records() -> tuple[TokenRecord, ...]:
    return tuple(
        TokenRecord(
            token_hash=token.token_hash,
            environment=token.environment,
            service=token.service,
            expires_at_unix=token.expires_at.timestamp() if token.expires_at else None,
        )
        for token in list_service_tokens()
    )

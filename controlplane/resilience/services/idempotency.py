"""Idempotency keys: a repeated request finds the first one's answer, and never acts again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from controlplane.kernel.errors import Conflict, InvalidInput
from controlplane.resilience.models import IdempotencyKey

KEPT_FOR = timedelta(hours=24)
# A request is answered or cut off long before this, so a claim this old lost its process. Its
# work was rolled back with it, because work and stored answer commit together.
ABANDONED_AFTER = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the first request of a key was answered."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do the work of one key, once."""

    row_id: int
    claimed_at: datetime


def claim(*, client: str, key: str, request_hash: str, now: datetime) -> Claim | StoredAnswer:
    """Claim a key for its first request, or return the answer it got before.

    Raises:
        Conflict: the first request with this key is still being worked on.
        InvalidInput: the key was used for a different request.
    """
    try:
        # Inside a savepoint: a refused INSERT must not break a transaction of the caller's.
        with transaction.atomic():
            row = IdempotencyKey.objects.create(
                client=client,
                key=key,
                request_hash=request_hash,
                state="in_progress",
                created_at=now,
                expires_at=now + KEPT_FOR,
            )
    except IntegrityError:
        # one_use_per_client_and_key: somebody was first.
        return _claimed_before(client, key, request_hash, now)
    return Claim(row.pk, now)


def store_answer(*, claim: Claim, answer: StoredAnswer) -> None:
    """Keep the answer of a claim, in the transaction of the work it answers for.

    Raises:
        Conflict: the claim was given up as abandoned; roll the work back.
    """
    stored = IdempotencyKey.objects.filter(
        pk=claim.row_id, state="in_progress", created_at=claim.claimed_at
    ).update(
        state="done",
        answer_status=answer.status,
        # As text: PostgreSQL would give an object back with its keys in another order.
        answer_body=json.dumps(answer.body),
        answer_headers=dict(answer.headers),
    )
    if not stored:
        raise Conflict("this request took so long that a repeat of it took over")


def release(*, claim: Claim) -> None:
    """Give a key back after its work failed and was rolled back, so that it may be used again."""
    IdempotencyKey.objects.filter(
        pk=claim.row_id, state="in_progress", created_at=claim.claimed_at
    ).delete()


def purge_expired(*, now: datetime) -> int:
    """Delete keys past their day; return how many."""
    deleted, _ = IdempotencyKey.objects.filter(expires_at__lte=now).delete()
    return deleted


def _claimed_before(
    client: str, key: str, request_hash: str, now: datetime
) -> Claim | StoredAnswer:
    row = IdempotencyKey.objects.filter(client=client, key=key).first()
    if row is None:
        raise Conflict("the first request with this Idempotency-Key just failed; send it again")
    if row.expires_at <= now or (
        row.state == "in_progress" and row.created_at <= now - ABANDONED_AFTER
    ):
        return _taken_over(row, request_hash, now)
    if row.request_hash != request_hash:
        raise InvalidInput(
            "this Idempotency-Key was used for a different request; use a new one",
            field="Idempotency-Key",
        )
    if row.state != "done" or row.answer_status is None:
        raise Conflict("the first request with this Idempotency-Key is still being worked on")
    return StoredAnswer(row.answer_status, json.loads(str(row.answer_body)), row.answer_headers)


def _taken_over(row: IdempotencyKey, request_hash: str, now: datetime) -> Claim:
    # Compare and swap: of several that find it abandoned, one goes on.
    taken = IdempotencyKey.objects.filter(
        pk=row.pk, state=row.state, created_at=row.created_at
    ).update(
        request_hash=request_hash,
        state="in_progress",
        answer_status=None,
        answer_body=None,
        answer_headers={},
        created_at=now,
        expires_at=now + KEPT_FOR,
    )
    if not taken:
        raise Conflict("another request with this Idempotency-Key took over just now")
    return Claim(row.pk, now)

"""The decorator that makes a POST of the operator API safe to repeat."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any

from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import InvalidInput
from controlplane.resilience.services import idempotency
from controlplane.resilience.services.idempotency import Claim, StoredAnswer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS = ("ETag", "Location")

PostMethod = Callable[..., Response]


def idempotent(post: PostMethod) -> PostMethod:
    """Honour `Idempotency-Key` on a `post` method: a repeat gets the first answer and does nothing.

    The work and its answer commit together, so a crash between them leaves neither. A refused
    request did nothing, so its key may be used again.
    """
    return _once(post, secret_fields=frozenset())


def idempotent_but_for(*secret_fields: str) -> Callable[[PostMethod], PostMethod]:
    """Honour `Idempotency-Key` as `idempotent` does; a repeat finds null in these fields.

    What is shown once, such as the text of a token, is not stored with the answer.
    """
    return functools.partial(_once, secret_fields=frozenset(secret_fields))


def _once(post: PostMethod, secret_fields: frozenset[str]) -> PostMethod:
    @functools.wraps(post)
    def answered_once(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return post(view, request, *args, **kwargs)
        if not _KEY.fullmatch(key):
            raise InvalidInput(f"{HEADER} must be 1 to 255 visible ASCII characters", field=HEADER)
        claimed = idempotency.claim(
            client=_client_of(request), key=key, request_hash=_hash_of(request), now=utc_now()
        )
        if isinstance(claimed, StoredAnswer):
            headers = {**claimed.headers, REPLAYED: "true"}
            return Response(claimed.body, status=claimed.status, headers=headers)
        return _do(claimed, lambda: post(view, request, *args, **kwargs), secret_fields)

    return answered_once


def _do(claimed: Claim, work: Callable[[], Response], secret_fields: frozenset[str]) -> Response:
    try:
        with transaction.atomic():
            response = work()
            kept = {name: response[name] for name in _KEPT_HEADERS if name in response}
            body = response.data
            if secret_fields:
                body = {name: None if name in secret_fields else body[name] for name in body}
            idempotency.store_answer(
                claim=claimed, answer=StoredAnswer(response.status_code, body, kept)
            )
    except BaseException:
        idempotency.release(claim=claimed)
        raise
    return response


def _client_of(request: Request) -> str:
    token_id = getattr(request.auth, "pk", None)
    return f"token:{token_id}" if token_id is not None else f"user:{request.user.pk}"


def _hash_of(request: Request) -> str:
    digest = hashlib.sha256()
    for part in (
        request.method or "",
        request.get_full_path(),
        request.headers.get("If-Match", ""),
    ):
        digest.update(part.encode() + b"\n")
    # Read here, before the parser: Django keeps the bytes, and the parser reads them from there.
    digest.update(request.body)
    return digest.hexdigest()

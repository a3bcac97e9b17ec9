"""Writes that a form asks for, made once: a double click and a retried POST find the first.

Every form that writes holds `{% once %}`. The key is claimed in the transaction of the write, so
a second one waits for the first to commit and is then answered as the first was.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from controlplane.kernel.errors import Conflict, InvalidInput
from controlplane.resilience.services import idempotency
from controlplane.resilience.services.idempotency import StoredAnswer
from dashboards.templatetags.once import FIELD

SENT_BEFORE = (
    "This form was sent before, with other content. Nothing was changed now: look at what is in "
    "force, and send it again if you still want to."
)
_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a write: where to go on, and what to say there."""

    url: str
    message: str = ""


def once(request: HttpRequest, act: Callable[[], Done], *, now: datetime) -> HttpResponse:
    """Do what a form asks for, unless it was done before, and go on to what came of it.

    A form without a key, as one drawn before an upgrade is, is not checked. What `act` raises
    undoes everything it did, and gives the key back.

    Raises:
        Conflict: the key was used for another content.
        InvalidInput: no page gave out such a key.
    """
    key = request.POST.get(FIELD)
    if key is None:
        return _go_on(request, act())
    if not _KEY.fullmatch(key):
        raise InvalidInput(f"{FIELD} is not a key of this page: reload it", field=FIELD)
    with transaction.atomic():
        done = _claimed(request, key, act, now)
    return _go_on(request, done)


def _claimed(request: HttpRequest, key: str, act: Callable[[], Done], now: datetime) -> Done:
    try:
        claim = idempotency.claim(
            client=f"user:{request.user.pk}",
            key=f"form:{key}",
            request_hash=_hash_of(request),
            now=now,
        )
    except InvalidInput as error:
        raise Conflict(SENT_BEFORE) from error
    if isinstance(claim, StoredAnswer):
        return Done(claim.headers["Location"], str(claim.body))
    done = act()
    answer = StoredAnswer(HTTPStatus.FOUND, done.message, {"Location": done.url})
    idempotency.store_answer(claim=claim, answer=answer)
    return done


def _go_on(request: HttpRequest, done: Done) -> HttpResponse:
    if done.message:
        messages.success(request, done.message)
    return HttpResponseRedirect(done.url)


def _hash_of(request: HttpRequest) -> str:
    """Of what is asked for: the token of the session may change between two clicks."""
    sent = sorted(
        (name, values)
        for name, values in request.POST.lists()
        if name not in (FIELD, "csrfmiddlewaretoken")
    )
    return hashlib.sha256(json.dumps([request.path, sent]).encode()).hexdigest()

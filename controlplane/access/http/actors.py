"""The actor of a request, for Django views and API views alike."""

from __future__ import annotations

from django.http import HttpRequest
from rest_framework.request import Request

from controlplane.access.domain.actors import Actor
from controlplane.access.models import ServiceToken
from controlplane.access.selectors import actor_for_token, actor_for_user
from controlplane.kernel.logs import current_request_id

_CACHE = "tidegate_actor"


def actor_of(request: HttpRequest | Request) -> Actor:
    """Return who asks; roles are read once per request. Nobody signed in: an actor without roles.

    Reads the database: in an async view call it through `sync_to_async`.
    """
    known = getattr(request, _CACHE, None)
    if isinstance(known, Actor):
        return known
    token = getattr(request, "auth", None)
    if isinstance(token, ServiceToken):
        actor = actor_for_token(token, request_id=current_request_id())
    else:
        actor = actor_for_user(request.user, request_id=current_request_id())
    setattr(request, _CACHE, actor)
    return actor

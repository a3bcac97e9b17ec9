"""The permission class of API views; the exact check by team is the service's."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from controlplane.access.http.actors import actor_of
from controlplane.kernel.errors import Forbidden


class MayAct(BasePermission):
    """Admits actors who may do `view.actions[method]` on some team.

    A view without an entry for a method it answers is closed, not open.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True for who may act.

        Raises:
            NotAuthenticated: nobody is signed in.
            Forbidden: they hold no role that allows it.
        """
        if not request.user.is_authenticated:
            raise NotAuthenticated("sign in, or send an operator token as Authorization: Bearer")
        method = request.method or ""
        if getattr(view, method.lower(), None) is None:
            return True  # the view answers 405 itself
        action = view.actions.get("GET" if method in ("HEAD", "OPTIONS") else method)
        actor = actor_of(request)
        if action is None or not actor.may_somewhere(action):
            raise Forbidden(f"{actor.name} may not do {action or method}")
        return True

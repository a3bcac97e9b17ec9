"""Query parameters: text that any database can hold, and none that nobody reads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import get_resolver
from django.utils.deprecation import MiddlewareMixin
from rest_framework.request import Request

from controlplane.kernel.errors import BadRequest, InvalidInput

NUL = "\0"
MAX_NAME_SHOWN = 100


class ReadableQueryMiddleware(MiddlewareMixin):
    """Answers 400 where the query holds a NUL, which PostgreSQL takes in no text.

    Here for pages and API alike, so that no view has to think of it.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Return the refusal; None when the request may go on."""
        for name, values in request.GET.lists():
            if NUL in name or any(NUL in str(value) for value in values):
                shown = name.replace(NUL, "")[:MAX_NAME_SHOWN]
                error = BadRequest(f"{shown} holds a NUL character", field=shown)
                answer: Any = get_resolver().resolve_error_handler(400)
                refusal: HttpResponse = answer(request, exception=error)
                return refusal
        return None


def check_names(request: Request, known: Collection[str]) -> None:
    """Check that every query parameter is one that is read: a filter that is not would select all.

    Raises:
        BadRequest: one is not; the message has those that are.
    """
    unknown = next((name for name in request.query_params if name not in known), None)
    if unknown is not None:
        shown = unknown[:MAX_NAME_SHOWN]
        read = f"known ones: {', '.join(known)}" if known else "there is none here"
        raise BadRequest(f"no parameter is named {shown}; {read}", field=shown)


def choice_of(request: Request, name: str, choices: Collection[str]) -> str | None:
    """Return the value of a parameter that takes one of a few; None when it is left out.

    Raises:
        InvalidInput: another value.
    """
    asked = request.query_params.get(name)
    if not asked:
        return None
    if asked not in choices:
        raise InvalidInput(f"{name} must be one of: {', '.join(choices)}", field=name)
    return asked

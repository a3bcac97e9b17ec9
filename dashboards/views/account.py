"""One's own account: changing the password."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from controlplane.access.http.actors import actor_of
from controlplane.access.http.addresses import address_of
from controlplane.access.services.passwords import change_password, may_change_password
from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import Forbidden, InvalidInput, NotFound, TidegateError, Unavailable
from dashboards.views import errors
from dashboards.views.places import place_of
from dashboards.views.scope import Scope, scope_of, theme_of

CHANGED = "Your password is changed. Your other sessions have ended."
NOT_TWICE = "The new passwords are not the same."


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    """The page where everybody changes their password, those without a role as well."""
    try:
        if not request.user.is_authenticated:
            return cast(HttpResponse, redirect_to_login(place_of(request)))
        if request.method == "POST":
            return _change(request, request.user)
        return _draw(request, request.user)
    except TidegateError as error:
        return errors.page_of(request, error)
    except OperationalError:
        return errors.page_of(request, Unavailable("The database does not answer."))


def _change(request: HttpRequest, user: User) -> HttpResponse:
    new = request.POST.get("new", "")
    if new != request.POST.get("again", ""):
        return _draw(request, user, field="again", problem=NOT_TWICE, status=422)
    try:
        change_password(
            actor=actor_of(request),
            user=user,
            old=request.POST.get("old", ""),
            new=new,
            address=address_of(request),
            now=utc_now(),
        )
    except InvalidInput as error:
        return _draw(
            request, user, field=error.field or "", problem=error.message, status=error.status
        )
    except Unavailable as error:
        response = _draw(request, user, problem=error.message, status=error.status)
        response["Retry-After"] = str(errors.retry_after_s(error))
        return response
    update_session_auth_hash(request, user)
    messages.success(request, CHANGED)
    return HttpResponseRedirect(reverse("account-password"))


def _draw(
    request: HttpRequest,
    user: User,
    *,
    field: str = "",
    problem: str = "",
    status: int = HTTPStatus.OK,
) -> HttpResponse:
    scope = _find_scope(request)
    context: dict[str, Any] = {
        "layout": "base.html" if scope else "bare.html",
        "scope": scope,
        "theme": theme_of(request),
        "user_name": user.get_username(),
        "is_shared": not may_change_password(user),
        "field": field,
        "problem": problem,
    }
    return render(request, "registration/password.html", context, status=status)


def _find_scope(request: HttpRequest) -> Scope | None:
    """Return the frame; None for who holds no role, or before there is an environment."""
    try:
        return scope_of(request)
    except (Forbidden, NotFound):
        return None

"""What every page and region knows: who looks, at which environment, in which theme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, Protocol, cast

from django.contrib.auth.views import redirect_to_login
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django_htmx.http import HttpResponseClientRedirect

from controlplane.access.domain.actors import Actor
from controlplane.access.http.actors import actor_of
from controlplane.kernel.errors import Forbidden, NotFound, TidegateError, Unavailable
from controlplane.registry.selectors import list_environments
from dashboards.views import errors
from dashboards.views.places import page_around, place_of

THEME_COOKIE = "tidegate_theme"
THEMES = ("dark", "light", "system")
DEFAULT_THEME = "system"


@dataclass(frozen=True, slots=True)
class Choice:
    """One entry of a switch: what it is called, and whether it is the present one."""

    slug: str
    name: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """The frame of one page or region."""

    environment: str
    environment_name: str
    is_default: bool
    environments: tuple[Choice, ...]
    actor: Actor
    user_name: str
    roles: str
    is_admin: bool
    theme: str
    path: str


class ScopedView(Protocol):
    """A view once its frame is known."""

    def __call__(self, request: HttpRequest, scope: Scope, **kwargs: Any) -> HttpResponse:
        """Answer."""


View = Callable[Concatenate[HttpRequest, ...], HttpResponse]


def page(view: Callable[Concatenate[HttpRequest, Scope, ...], HttpResponse]) -> View:
    """Make `view` a page: signed-in people only, our errors as error pages.

    Signing in leads back to the page one was on; a form whose session has ended, to its page.
    """

    @wraps(view)
    def framed(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        try:  # the session is a row too
            if not request.user.is_authenticated:
                return cast(HttpResponse, redirect_to_login(place_of(request)))
            return view(request, scope_of(request), **kwargs)
        except TidegateError as error:
            return errors.page_of(request, error)
        except OperationalError:
            return errors.page_of(request, Unavailable("The database does not answer."))

    return framed


def region(view: Callable[Concatenate[HttpRequest, Scope, ...], HttpResponse]) -> View:
    """Make `view` a region: when the session has ended, the whole page goes to sign-in."""

    @wraps(view)
    def framed(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        try:  # the session is a row too
            if not request.user.is_authenticated:
                # A redirect would put the sign-in page inside the region.
                return HttpResponseClientRedirect(redirect_to_login(page_around(request)).url)
            return view(request, scope_of(request), **kwargs)
        except TidegateError as error:
            return errors.page_of(request, error)
        except OperationalError:
            return errors.page_of(request, Unavailable("The database does not answer."))

    return framed


def scope_of(request: HttpRequest) -> Scope:
    """Read the frame from the session, the URL and the theme cookie.

    Raises:
        NotFound: the URL names no known environment, or there is none at all.
        Forbidden: whoever asks holds no role.
    """
    known = list_environments()
    if not known:
        raise NotFound("No environment exists yet. An admin adds one on the admin pages.")
    default = known[0].slug
    asked = request.GET.get("environment") or request.POST.get("environment") or default
    names = {each.slug: each.name for each in known}
    if asked not in names:
        raise NotFound(f"There is no environment named {asked}.")
    actor = actor_of(request)
    if not actor.may("service.read"):
        raise Forbidden(
            f"You are signed in as {actor.name}, who holds no role yet. An admin grants one."
        )
    return Scope(
        environment=asked,
        environment_name=names[asked],
        is_default=asked == default,
        environments=tuple(Choice(slug, name, slug == asked) for slug, name in names.items()),
        actor=actor,
        user_name=actor.name,
        roles=_roles(actor),
        is_admin=any(grant.role == "admin" for grant in actor.grants),
        theme=theme_of(request),
        path=request.get_full_path(),
    )


def theme_of(request: HttpRequest) -> str:
    """The theme that the cookie asks for; the system's when it asks for none we know."""
    theme = request.COOKIES.get(THEME_COOKIE, DEFAULT_THEME)
    return theme if theme in THEMES else DEFAULT_THEME


def draw(
    request: HttpRequest, scope: Scope, template: str, *, status: int = 200, **context: Any
) -> HttpResponse:
    """Render `template` with the frame and `context`."""
    response = render(request, template, {"scope": scope, **context}, status=status)
    response["Cache-Control"] = "no-store"
    return response


def _roles(actor: Actor) -> str:
    roles = sorted(
        {f"{g.role}" if g.team is None else f"{g.role} of {g.team}" for g in actor.grants}
    )
    return ", ".join(roles) or "no role"

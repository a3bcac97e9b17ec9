"""Where people were, and whether an address is a page of ours that one can be led to."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.urls import Resolver404, resolve
from django.utils.http import url_has_allowed_host_and_scheme

FIRST_PAGE = "/"
NO_PLACES = frozenset({"login", "logout", "theme"})
"""Names of addresses to stay away from after signing in: doors, and what only takes forms."""


def safe_place(request: HttpRequest, target: str) -> str:
    """Return `target` if it is a place on this host that is not a door; else the first page."""
    is_ours = url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    if not is_ours or not target.isprintable():
        return FIRST_PAGE
    try:
        found = resolve(unquote(urlsplit(target).path) or FIRST_PAGE)
    except Resolver404:
        return target  # a page that says so
    is_admins_door = found.route in ("admin/login/", "admin/password_change/")
    is_part = "/regions/" in f"/{found.route}"
    return FIRST_PAGE if is_admins_door or is_part or found.url_name in NO_PLACES else target


def place_of(request: HttpRequest) -> str:
    """Return the page somebody is on: the one asked for, or the one whose form asks."""
    if request.method in ("GET", "HEAD"):
        return request.get_full_path()
    return page_around(request)


def page_around(request: HttpRequest) -> str:
    """Return the page whose form or region asks, as the browser names it; else the first page."""
    referer = request.headers.get("Referer", "")
    return _path_of(request, request.headers.get("HX-Current-URL", referer))


def _path_of(request: HttpRequest, address: str) -> str:
    """Return path and query of an address of ours; of any other, the first page."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return FIRST_PAGE
    ours = {request.get_host(), urlsplit(settings.TIDEGATE.public_origin).netloc}
    if parts.netloc.lower() not in ours or not parts.path.startswith("/"):
        return FIRST_PAGE
    place = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return safe_place(request, place)

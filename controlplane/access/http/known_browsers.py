"""Browsers that have signed in as somebody before: others cannot shut them out (OWASP: device
cookies). The cookie opens nothing; it only lets its browser be counted by itself."""

from __future__ import annotations

import secrets

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

COOKIE = "tidegate_browser"
SALT = "tidegate.access.known-browser"
KEPT_S = 180 * 24 * 3600
LONGEST = 1024  # characters of a cookie that is ours


def browser_known_as(name: str, request: HttpRequest) -> str:
    """Return which browser this is, if it has signed in as `name`; empty otherwise."""
    cookie = request.COOKIES.get(COOKIE, "")
    if not cookie or len(cookie) > LONGEST:
        return ""
    try:
        known = signing.loads(cookie, salt=SALT, max_age=KEPT_S)
    except signing.BadSignature:
        return ""
    is_theirs = isinstance(known, list) and len(known) == 2 and known[0] == name
    return str(known[1]) if is_theirs else ""


def remember_browser(name: str, request: HttpRequest, response: HttpResponse) -> None:
    """Let this browser be known as one that has signed in as `name`."""
    browser = browser_known_as(name, request) or secrets.token_urlsafe(12)
    response.set_cookie(
        COOKIE,
        signing.dumps([name, browser], salt=SALT),
        max_age=KEPT_S,
        path=reverse("login"),
        secure=request.is_secure(),
        httponly=True,
        samesite="Lax",
    )

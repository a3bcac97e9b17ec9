"""Ends sessions that nobody uses, and those that are too old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.db import OperationalError
from django.http import HttpRequest
from django.utils.deprecation import MiddlewareMixin

from controlplane.access.domain.sessions import SessionLife
from controlplane.kernel.clock import utc_now

BEGAN = "began_at_unix"
USED = "used_at_unix"


class SessionLifeMiddleware(MiddlewareMixin):
    """Ends a session TIDEGATE_SESSION_IDLE_S after its last use, TIDEGATE_SESSION_MAX_S at most.

    Opening a page and sending a form are use. What a page refreshes by itself is not: a tab that
    somebody left open would otherwise keep them signed in for good.
    """

    def process_request(self, request: HttpRequest) -> None:
        """End the session, or note that it is used; whoever has none costs nothing."""
        if settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return
        try:  # the session is a row
            _end_or_note(request.session, is_use="HX-Request" not in request.headers, now=utc_now())
        except OperationalError:
            return  # the view meets it as well, and says so


def begin_session(session: SessionBase, *, now: datetime) -> None:
    """Note that somebody has just signed in."""
    session[BEGAN] = session[USED] = now.timestamp()


def _end_or_note(session: SessionBase, *, is_use: bool, now: datetime) -> None:
    began, used = session.get(BEGAN), session.get(USED)
    if began is None or used is None:
        return  # nobody signed in; or before sessions had these, and Django ends it as it did
    life = SessionLife(
        began_at=datetime.fromtimestamp(began, tz=UTC), used_at=datetime.fromtimestamp(used, tz=UTC)
    )
    idle = timedelta(seconds=settings.TIDEGATE.session_idle_s)
    longest = timedelta(seconds=settings.TIDEGATE.session_max_s)
    if life.is_over(idle=idle, longest=longest, now=now):
        session.flush()
    elif is_use and life.is_worth_noting(now=now):
        session[USED] = now.timestamp()

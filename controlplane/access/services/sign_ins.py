"""Signing in: counted before a password is looked at, in turn, and written to the audit log."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import User

from controlplane.access.domain.actors import Actor
from controlplane.access.domain.sign_ins import (
    Counter,
    Limits,
    counters_of,
    shown_name,
    too_many,
)
from controlplane.access.selectors import actor_for_user
from controlplane.access.services import audit, password_queue
from controlplane.access.services.sign_in_counts import COUNTS
from controlplane.kernel.errors import Unavailable
from controlplane.kernel.instruments import counter
from controlplane.kernel.logs import current_request_id

_SIGN_INS = counter("tidegate_access_sign_ins_total", "Attempts to sign in by result.", ("result",))
UNKNOWN = "user:unknown"


def sign_in(
    *, name: str, password: str, address: str, browser: str = "", now: datetime
) -> User | None:
    """Return the user whose name and password these are; None when they do not belong together.

    Every attempt is in the audit log: which user, from which address, never the password. A name
    that no user has is not written down: what people type there by mistake is their password, and
    the log keeps what it holds. Of attempts beyond a limit only the first of a window is recorded.

    Args:
        address: who asks; see `http.addresses.address_of`.
        browser: what a browser proved that signed in as this name before; empty for any other.

    Raises:
        TooManySignIns: a limit is reached; the password was not looked at.
        Unavailable: too many passwords are being checked; this one was not looked at.
    """
    taken = _count(name, address, browser, now)
    if not _may_be_a_name(name):
        _record("sign_in.refused", name, address, now)
        return None
    try:
        with password_queue.PASSWORDS.turn():
            user = authenticate(username=name, password=password)
    except Unavailable:
        _give_back(taken)
        _SIGN_INS.labels("unavailable").inc()
        raise
    if not isinstance(user, User):
        _record("sign_in.refused", name, address, now)
        return None
    _give_back(taken)
    audit.record(
        actor=actor_for_user(user, request_id=current_request_id()),
        action="sign_in.succeeded",
        subject=f"user:{shown_name(user.get_username())}",
        at=now,
        data={"address": address},
    )
    _SIGN_INS.labels("succeeded").inc()
    return user


def count_password_attempt(*, name: str, address: str, now: datetime) -> tuple[Counter, ...]:
    """Count an attempt at the password of somebody who is signed in, as one to sign in.

    Returns what `forgive` takes when the password was right.

    Raises:
        TooManySignIns: a limit is reached.
    """
    return _count(name, address, "", now)


def forgive(taken: tuple[Counter, ...]) -> None:
    """Take back an attempt whose password was right or was not looked at."""
    _give_back(taken)


def _count(name: str, address: str, browser: str, now: datetime) -> tuple[Counter, ...]:
    """Count strictest first: who is over one limit uses up none of the wider ones."""
    limits: Limits = settings.TIDEGATE.sign_in_limits
    counters = counters_of(
        name, address, browser, limits=limits, secret=settings.SECRET_KEY.encode(), now=now
    )
    for each in counters:
        count = COUNTS.take(each.key, keep_s=_keep_s())
        if count > each.most:
            _SIGN_INS.labels("throttled").inc()
            if count == each.most + 1:
                _record("sign_in.throttled", name, address, now, limit=each)
            raise too_many(limits, now=now)
    return counters


def _give_back(taken: tuple[Counter, ...]) -> None:
    for each in taken:
        COUNTS.give_back(each.key, keep_s=_keep_s())


def _keep_s() -> int:
    limits: Limits = settings.TIDEGATE.sign_in_limits
    return 2 * limits.window_s  # a counter outlives its window, however the clocks differ


def _record(
    action: str, name: str, address: str, now: datetime, *, limit: Counter | None = None
) -> None:
    is_known = _may_be_a_name(name) and User.objects.filter(username=name).exists()
    reached = {"limit": f"{limit.most} per {limit.kind}"} if limit else {}
    audit.record(
        actor=Actor(name="anonymous", kind="user", grants=(), request_id=current_request_id()),
        action=action,
        subject=f"user:{name}" if is_known else UNKNOWN,
        at=now,
        data={"address": address, **reached},
    )
    if limit is None:
        _SIGN_INS.labels("refused").inc()


def _may_be_a_name(name: str) -> bool:
    """Return whether a user can have that name: no database is asked for a NUL or a novel."""
    return bool(name) and shown_name(name) == name

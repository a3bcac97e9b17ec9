"""Changing one's own password."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from controlplane.access.domain.actors import Actor
from controlplane.access.domain.sign_ins import shown_name
from controlplane.access.services import audit, password_queue
from controlplane.access.services.sign_ins import count_password_attempt, forgive
from controlplane.kernel.errors import Forbidden, InvalidInput, Problem, Unavailable

LONGEST = 1024  # characters: hashing more says nothing new about whoever types it
DEMO_NAMES = frozenset({"viewer", "oncall", "admin"})


def may_change_password(user: User) -> bool:
    """Return whether it is their own: the demo's logins are on its sign-in page, for everybody."""
    is_demo = settings.TIDEGATE.demo and getattr(settings, "TIDEGATE_ALLOW_DEMO", False)
    return not (is_demo and user.get_username() in DEMO_NAMES)


def change_password(
    *, actor: Actor, user: User, old: str, new: str, address: str, now: datetime
) -> None:
    """Replace the password of `user`, which ends every session that was begun with the old one.

    `user` is changed in place, so that the session that asks can go on. Tokens keep working.

    Args:
        address: who asks; wrong old passwords count as wrong ones at the sign-in page.

    Raises:
        Forbidden: the actor is somebody else, or it is one of the demo's shared logins.
        InvalidInput: the old one is wrong (field `old`), or the new one is not good enough (`new`).
        TooManySignIns: too many wrong ones; this one was not looked at.
        Unavailable: too many passwords are being checked.
    """
    if actor.kind != "user" or actor.name != user.get_username():
        raise Forbidden("everybody changes their own password only")
    if not may_change_password(user):
        raise Forbidden("The demo's logins are shared: their password stays as it is shown.")
    _check_new(new, user)
    taken = count_password_attempt(name=user.get_username(), address=address, now=now)
    try:
        with password_queue.PASSWORDS.turn():
            is_right = check_password(old, user.password)
            if is_right:
                user.set_password(new)
    except Unavailable:
        forgive(taken)
        raise
    if not is_right:
        _record(actor, user, "password.change_refused", address, now)
        raise InvalidInput("This is not your present password.", field="old")
    forgive(taken)
    with transaction.atomic():
        user.save(update_fields=["password"])
        _record(actor, user, "password.changed", address, now)


def _check_new(new: str, user: User) -> None:
    if len(new) > LONGEST:
        raise InvalidInput(f"Use at most {LONGEST} characters.", field="new")
    try:
        validate_password(new, user)
    except ValidationError as error:
        problems = tuple(Problem("new", message) for message in error.messages)
        raise InvalidInput(" ".join(error.messages), field="new", problems=problems) from None


def _record(actor: Actor, user: User, action: str, address: str, now: datetime) -> None:
    audit.record(
        actor=actor,
        action=action,
        subject=f"user:{shown_name(user.get_username())}",
        at=now,
        data={"address": address},
    )

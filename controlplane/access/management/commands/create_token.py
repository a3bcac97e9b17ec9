"""`manage.py create_token`: make a service or operator token and print it once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.access.domain.actors import system_actor
from controlplane.access.services.tokens import create_operator_token, create_service_token
from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import TidegateError

MAX_DAYS = 36_500


class Command(BaseCommand):
    help = "Make a token. Its text goes to standard output, once; only its hash is stored."

    def add_arguments(self, parser: CommandParser) -> None:
        kinds = parser.add_subparsers(dest="kind", required=True)
        service = kinds.add_parser("service", help="with which a service reads its policy")
        service.add_argument("environment")
        service.add_argument("service")
        operator = kinds.add_parser("operator", help="acts in the API with a user's roles")
        operator.add_argument("username")
        for kind in (service, operator):
            kind.add_argument("--label", default="made on the command line")
            kind.add_argument("--expires-in-days", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        now = utc_now()
        expires_at = _expiry(options["expires_in_days"], now)
        actor = system_actor("command line")
        try:
            if options["kind"] == "service":
                _, text = create_service_token(
                    actor=actor,
                    environment=options["environment"],
                    service=options["service"],
                    label=options["label"],
                    now=now,
                    expires_at=expires_at,
                )
            else:
                _, text = create_operator_token(
                    actor=actor,
                    user=_user(options["username"]),
                    label=options["label"],
                    now=now,
                    expires_at=expires_at,
                )
        except TidegateError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(text)


def _expiry(days: int | None, now: datetime) -> datetime | None:
    if days is None:
        return None
    if not 1 <= days <= MAX_DAYS:
        raise CommandError(f"--expires-in-days must be 1 to {MAX_DAYS}, not {days}")
    return now + timedelta(days=days)


def _user(username: str) -> User:
    user = User.objects.filter(username=username).first()
    if user is None:
        raise CommandError(f"there is no user {username!r}")
    return user

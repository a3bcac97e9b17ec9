"""`manage.py rotate_token`: replace a token without a gap, and print the new one once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.access.domain.actors import system_actor
from controlplane.access.models import ServiceToken
from controlplane.access.selectors import get_service_token, list_rotatable_tokens
from controlplane.access.services.tokens import DEFAULT_GRACE, rotate_token
from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import TidegateError


class Command(BaseCommand):
    help = (
        "Make the successor of a service token. Its text goes to standard output, once; both "
        "work until the grace time is over."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("environment")
        parser.add_argument("service")
        parser.add_argument("--id", type=int, help="which token, when the service has several")
        parser.add_argument(
            "--grace-s", type=float, default=DEFAULT_GRACE.total_seconds(), metavar="SECONDS",
            help="for which the old token works on (default %(default).0f)",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        now = utc_now()
        try:
            grace = timedelta(seconds=options["grace_s"])
        except (OverflowError, ValueError):
            raise CommandError("--grace-s must be a number of seconds") from None
        try:
            token = _chosen(options["environment"], options["service"], options["id"], now)
            _, text = rotate_token(
                actor=system_actor("command line"), token=token, grace=grace, now=now
            )
        except TidegateError as error:
            raise CommandError(str(error)) from None
        self.stderr.write(
            f"token {token.pk} ({token.label}) works until {token.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        )
        self.stdout.write(text)


def _chosen(environment: str, service: str, token_id: int | None, now: datetime) -> ServiceToken:
    if token_id is not None:
        token = get_service_token(token_id)
        if (token.environment, token.service) != (environment, service):
            raise CommandError(f"token {token_id} is for {token.service} in {token.environment}")
        return token
    tokens = list_rotatable_tokens(environment, service, now=now)
    if len(tokens) == 1:
        return tokens[0]
    if not tokens:
        raise CommandError(f"{service} in {environment} has no live token that is not rotated yet")
    found = ", ".join(f"{each.pk} ({each.label})" for each in tokens)
    raise CommandError(f"{service} in {environment} has several tokens; pass --id: {found}")

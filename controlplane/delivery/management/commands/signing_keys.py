"""`manage.py signing_keys list|rotate|withdraw|reseal`: the keys that sign what is delivered."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.access.domain.actors import system_actor
from controlplane.delivery.selectors import list_signing_keys
from controlplane.delivery.services.signing_keys import (
    DEFAULT_LEAD,
    reseal_signing_keys,
    rotate_signing_key,
    withdraw_signing_key,
)
from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import TidegateError


class Command(BaseCommand):
    help = (
        "List the keys that sign policies, announce the next one, or withdraw a compromised one. "
        "The first key is made by the first delivery process that starts."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="every key: status, times, kid and public key")
        rotate = actions.add_parser("rotate", help="announce a new key, used after a lead")
        rotate.add_argument("--reason", required=True)
        rotate.add_argument(
            "--lead-s", type=float, default=DEFAULT_LEAD.total_seconds(), metavar="SECONDS",
            help="until the new key signs (default %(default).0f)",
        )  # fmt: skip
        withdraw = actions.add_parser("withdraw", help="a key is compromised: stop using it now")
        withdraw.add_argument("kid")
        withdraw.add_argument("--reason", required=True)
        reseal = actions.add_parser(
            "reseal", help="seal the private keys with the present TIDEGATE_SIGNING_SECRET_FILE"
        )
        reseal.add_argument("--old-secret-file", required=True, type=Path, metavar="FILE")
        reseal.add_argument("--reason", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except TidegateError as error:
            raise CommandError(str(error)) from None

    def _list(self, _: dict[str, Any]) -> None:
        rows = list_signing_keys(now=utc_now())
        if not rows:
            self.stdout.write("no key yet: the first delivery process that starts makes one")
        for row in rows:
            at = row.withdrawn_at or row.active_from
            word = "since" if row.withdrawn_at else "from"
            self.stdout.write(
                f"{row.status:9}  {word:5} {at:%Y-%m-%d %H:%M:%S} UTC  kid {row.kid}  x {row.x}"
            )

    def _rotate(self, options: dict[str, Any]) -> None:
        try:
            lead = timedelta(seconds=options["lead_s"])
        except (OverflowError, ValueError):
            raise CommandError("--lead-s must be a number of seconds") from None
        key = rotate_signing_key(
            actor=system_actor("command line"), reason=options["reason"], lead=lead, now=utc_now()
        )
        self.stdout.write(f"{key.kid} signs from {key.active_from:%Y-%m-%d %H:%M:%S} UTC on")

    def _withdraw(self, options: dict[str, Any]) -> None:
        done = withdraw_signing_key(
            actor=system_actor("command line"),
            kid=options["kid"],
            reason=options["reason"],
            now=utc_now(),
        )
        self.stdout.write(f"{done.active.kid} signs now. {done.consequence}")

    def _reseal(self, options: dict[str, Any]) -> None:
        path = options["old_secret_file"]
        try:
            old_secret = path.read_text().strip()
        except OSError as error:
            raise CommandError(f"--old-secret-file {path} cannot be read: {error}") from None
        count = reseal_signing_keys(
            actor=system_actor("command line"),
            old_secret=old_secret,
            reason=options["reason"],
            now=utc_now(),
        )
        self.stdout.write(f"{count} key{'' if count == 1 else 's'} sealed with the present secret")

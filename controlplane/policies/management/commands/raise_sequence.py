"""`manage.py raise_sequence --above N`: move on after a backup was restored."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.access.domain.actors import system_actor
from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import TidegateError
from controlplane.policies.services.sequences import raise_sequence


class Command(BaseCommand):
    help = (
        "Hand out sequences above N from now on, and publish everything in force again. Run it "
        "after the database was restored from a backup, with the N that delivery's log names "
        "(sequence.behind). A service that was first published after the backup is not in force "
        "in this database: its instances keep their policy, which is lost, until it is named with "
        "--service (history.differs names them) or registered and published again by its name. "
        "See docs/runbooks/delivery-nodes.md."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--above", type=int, required=True, metavar="N",
            help="the highest sequence that any instance or delivery node holds",
        )  # fmt: skip
        parser.add_argument(
            "--service", action="append", default=[], metavar="ENVIRONMENT/SERVICE",
            help="a service that this database does not know: it gets the fleet default, and a "
            "canary of it ends; may be given several times",
        )  # fmt: skip
        parser.add_argument("--reason", required=True, help="such as: restored the backup of 02:00")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            raised = raise_sequence(
                actor=system_actor("command line"),
                above=options["above"],
                reason=options["reason"],
                now=utc_now(),
                lost=[_names(text) for text in options["service"]],
            )
        except TidegateError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(
            f"The sequence went from {raised.before} to {raised.after}; what is in force was "
            f"published again for {raised.services} names."
        )


def _names(text: str) -> tuple[str, str]:
    environment, slash, service = text.partition("/")
    if not slash:
        raise CommandError(f"--service takes environment/service, such as prod/checkout: {text!r}")
    return environment, service

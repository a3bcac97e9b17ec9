"""`manage.py grant_role`: give a user a role on one team or on every team."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.access.domain.actors import system_actor
from controlplane.access.domain.roles import Role
from controlplane.access.selectors import get_team
from controlplane.access.services.memberships import grant_role, revoke_role
from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import TidegateError


class Command(BaseCommand):
    help = "Give a user a role, on one team or on every team; `none` takes it away."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("role", choices=[*Role, "none"])
        parser.add_argument("--team", help="slug; every team when left out")
        parser.add_argument("--reason", default="granted on the command line")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"there is no user {options['username']!r}")
        actor = system_actor("command line")
        reason, now = options["reason"], utc_now()
        try:
            team = get_team(options["team"]) if options["team"] else None
            if options["role"] == "none":
                revoke_role(actor=actor, user=user, team=team, reason=reason, now=now)
            else:
                grant_role(
                    actor=actor, user=user, role=options["role"], team=team, reason=reason, now=now
                )
        except TidegateError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{user} is now {options['role']} of {team or 'every team'}")

"""Make what the demo starts with; `make up` runs it each time."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import TidegateError
from demo.edge import list_services
from demo.seed import seed_demo


class Command(BaseCommand):
    help = "Make the demo's teams, services, policies, objectives, logins and tokens. Idempotent."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            seed_demo(state_dir=settings.TIDEGATE.state_dir, now=utc_now(), shapes=list_services())
        except TidegateError as problem:
            raise CommandError(str(problem)) from None

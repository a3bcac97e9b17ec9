"""`manage.py policy_explain SERVICE`: every effective value, and the layer it comes from."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import TidegateError
from controlplane.policies.domain.resolve import Leaf
from controlplane.policies.selectors import effective_policy
from controlplane.registry.selectors import get_service, list_environments


class Command(BaseCommand):
    help = "Print each value of a service's effective policy, its layer, and what that beat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("service")
        parser.add_argument("--environment", help="the first one when left out")
        parser.add_argument("--path", default="", help="only values whose path starts with this")
        parser.add_argument("--json", action="store_true", help="print the policy document itself")

    def handle(self, *args: Any, **options: Any) -> None:
        environments = [each.slug for each in list_environments()]
        if not environments:
            raise CommandError("no environment is registered yet")
        try:
            service = get_service(options["environment"] or environments[0], options["service"])
        except TidegateError as error:
            raise CommandError(str(error)) from None
        resolved = effective_policy(service, utc_now())
        if options["json"]:
            self.stdout.write(json.dumps(resolved.policy, indent=2))
            return
        for leaf in resolved.leaves.values():
            if leaf.path.startswith(options["path"]):
                self.stdout.write(_line(leaf))


def _line(leaf: Leaf) -> str:
    line = f"{leaf.path} = {json.dumps(leaf.value)}  ({leaf.layer}"
    for label, value in leaf.beat:
        line += f"; beats {label}: {json.dumps(value)}"
    return line + ")"

"""`manage.py signal_check`: what each service is missing, and why."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import TidegateError
from controlplane.registry.selectors import get_environment
from controlplane.telemetry.services.check import check_signals
from controlplane.telemetry.services.connect import signal_source


class Command(BaseCommand):
    help = "Ask Prometheus for every signal and say what each service is missing, and why."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--environment", default="prod", help="slug; default: prod")

    def handle(self, *args: object, environment: str, **options: object) -> None:
        try:
            get_environment(environment)
            report = check_signals(environment=environment, source=signal_source(), now=utc_now())
        except TidegateError as error:
            raise CommandError(error.message) from None
        for problem in report.problems:
            self.stdout.write("Prometheus: " + problem)
        for service in report.services:
            self.stdout.write(service.name + ": " + service.summary)
            for line in service.missing:
                self.stdout.write("  - " + line)
        if not report.services:
            self.stdout.write("No service is registered, and none has series.")
        if report.has_silent_services:
            raise CommandError("Some services have no signals at all.")

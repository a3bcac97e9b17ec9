"""`manage.py verify_audit`: prove that the audit log is whole and unchanged."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from controlplane.access.services.audit import verify_chain


class Command(BaseCommand):
    help = "Check the hash chain of the audit log; exit status 1 when it does not hold."

    def handle(self, *args: Any, **options: Any) -> None:
        report = verify_chain()
        if not report.holds:
            raise CommandError("the audit log does not hold:\n  " + "\n  ".join(report.problems))
        self.stdout.write(
            f"{report.entries} entries, unbroken; newest hash {report.newest_hash or 'none'}"
        )

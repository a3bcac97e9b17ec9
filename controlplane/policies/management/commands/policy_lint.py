"""`manage.py policy_lint FILE`: check policy documents before anybody publishes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.kernel.errors import InvalidInput, Problem
from controlplane.policies.domain.checks import check_policy
from controlplane.policies.domain.document import parse_document
from controlplane.policies.domain.resolve import Layer, resolve
from controlplane.policies.domain.validate import validate_document


class Command(BaseCommand):
    help = (
        "Check policy documents: strict JSON, fields, ranges, contradictions (over the built-in "
        "policy). Exit status 1 when one has problems. `-` reads standard input."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE")

    def handle(self, *args: Any, **options: Any) -> None:
        count = 0
        for name in options["files"]:
            problems = _problems_in(_read(name))
            count += len(problems)
            for problem in problems:
                self.stdout.write(f"{name}: {problem}")
            if not problems:
                self.stdout.write(f"{name}: ok")
        if count:
            raise CommandError(f"{count} problem{'s' if count > 1 else ''} found")


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}") from None


def _problems_in(raw: bytes) -> tuple[Problem, ...]:
    try:
        document = validate_document(parse_document(raw))
    except InvalidInput as error:
        return error.problems or (Problem(error.field or "", error.message),)
    return tuple(check_policy(resolve([Layer("version", "this file", document)]).policy))

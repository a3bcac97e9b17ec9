"""The reason that goes with every write: one line, required."""

from __future__ import annotations

from django.http import QueryDict

from controlplane.kernel.errors import InvalidInput

LONGEST = 500


def read_reason(data: QueryDict, *, default: str = "") -> str:
    """The reason as given, or `default`; cut nowhere, the service refuses what is too long."""
    return str(data.get("reason", "")).strip() or default


def reason_problem(reason: str) -> str:
    """What is wrong with a reason; empty when nothing is."""
    if not reason:
        return "Say why: it is shown in the change log and on every chart."
    if len(reason) > LONGEST:
        return f"Use at most {LONGEST} characters; this has {len(reason)}."
    return ""


def read_number(text: str | None, name: str) -> int:
    """A whole number from a form or a URL.

    Raises:
        InvalidInput: it is not one.
    """
    if text and text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise InvalidInput(f"{name} must be a whole number", field=name)

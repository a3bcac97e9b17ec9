"""The reason that goes with every write: one line, required."""

from __future__ import annotations

from django.http import QueryDict

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

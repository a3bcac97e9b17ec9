"""What the forms about a canary say: how far it should reach, and what its author saw."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from django.http import QueryDict

DEFAULT_PERCENT = "10"


def read_ratio(text: str) -> float | None:
    """The part of the instances that a percentage names; None when it names none."""
    try:
        percent = Decimal(text.strip().removesuffix("%").strip())
    except InvalidOperation:
        return None
    return float(percent / 100) if percent.is_finite() and 0 < percent <= 100 else None


def read_seen_ratio(data: QueryDict) -> float | None:
    """The ratio that the form was drawn with; None when it does not say."""
    try:
        return float(str(data.get("ratio_seen", "")))
    except ValueError:
        return None

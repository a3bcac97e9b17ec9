"""What the forms about a canary say: how far it should reach, and what its author saw."""

from __future__ import annotations

from django.http import QueryDict

from controlplane.kernel.errors import InvalidInput
from dashboards.forms.policy_values import has_one_meaning, read_decimal

DEFAULT_PERCENT = "10"


def read_ratio(text: str) -> float | None:
    """The part of the instances that a percentage names; None when it names none."""
    text = text.strip().removesuffix("%").strip()
    percent = read_decimal(text) if has_one_meaning(text) else None
    return float(percent / 100) if percent is not None and 0 < percent <= 100 else None


def read_seen_ratio(data: QueryDict) -> float | None:
    """The ratio that the form was drawn with; None when it does not say.

    Raises:
        InvalidInput: what it says is not a number.
    """
    text = str(data.get("ratio_seen", ""))
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidInput("ratio_seen must be a number, such as 0.1", field="ratio_seen") from None

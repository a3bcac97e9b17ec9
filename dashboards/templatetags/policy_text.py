"""The text of an input that holds a policy value, and which inputs may stay empty."""

from __future__ import annotations

from decimal import Decimal

from controlplane.policies.domain.fields import Field


def shown(field: Field, value: object) -> str:
    """The text of an input that holds `value`; empty when there is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        number = Decimal(str(value)) * 100 if field.unit == "ratio" else Decimal(str(value))
        return _plain(number)
    return str(value)


def may_be_empty(field: Field, parts: tuple[str, ...]) -> bool:
    """Whether emptying the input removes the value: limits of endpoints and tenants, mostly."""
    is_own = parts[:2] in (("inbound", "tenants"), ("inbound", "endpoints"))
    return field.is_nullable or (is_own and field.kind in ("integer", "number"))


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

"""One policy value as a person types it: percent for ratios, whole numbers as whole numbers.

Only the shape is checked here. Ranges, contradictions and unknown fields are the policy
schema's to refuse.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from controlplane.policies.domain.fields import Field
from dashboards.templatetags.policy_text import shown

NOT_A_NUMBER = "Enter a number{unit}, such as {example}."
NOT_WHOLE = "Enter a whole number{unit}, such as {example}."
NEEDED = "This needs a value; to undo the change, put {was} back."


class Unreadable(Exception):
    """The text is not a value of that field; `str()` says what would be."""


def parsed(field: Field, text: str) -> object:
    """The value that `text` means.

    Raises:
        Unreadable: it is not a number where one is needed, or not one of the choices.
    """
    text = text.strip()
    if field.kind == "boolean":
        if text not in ("on", "off"):
            raise Unreadable("Choose on or off.")
        return text == "on"
    if field.kind not in ("integer", "number"):
        return text
    number = _number(field, text)
    if field.unit == "ratio":
        return _json_number(number / 100)
    if field.kind == "integer" and number != number.to_integral_value():
        raise Unreadable(NOT_WHOLE.format(unit=_of_unit(field), example=_example(field)))
    return _json_number(number)


def is_same(field: Field | None, text: str, was: str) -> bool:
    """Whether two texts of one input mean the same."""
    text, was = text.strip(), was.strip()
    if text == was or field is None or field.kind not in ("integer", "number"):
        return text == was
    try:
        return Decimal(text) == Decimal(was)
    except InvalidOperation:
        return False


def _number(field: Field, text: str) -> Decimal:
    try:
        number = Decimal(text.replace(" ", "").replace("_", ""))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or len(text) > 40 or abs(number.adjusted()) > 18:
        raise Unreadable(NOT_A_NUMBER.format(unit=_of_unit(field), example=_example(field)))
    return number


def _json_number(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)


def _example(field: Field) -> str:
    value = field.default if field.default is not None else field.minimum
    return shown(field, value) or "1"


def _of_unit(field: Field) -> str:
    unit = "percent" if field.unit == "ratio" else field.unit
    return f" ({unit})" if unit else ""

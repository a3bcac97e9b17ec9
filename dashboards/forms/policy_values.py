"""One policy value as a person types it: percent for ratios, whole numbers as whole numbers.

Only the shape is checked here. Ranges, contradictions and unknown fields are the policy
schema's to refuse.
"""

from __future__ import annotations

import re
from decimal import Decimal

from controlplane.policies.domain.fields import Field
from dashboards.templatetags.policy_text import shown

NOT_A_NUMBER = "Enter a number{unit}, such as {example}."
COMMA = "Enter a number{unit}, such as {example}: decimals follow a dot, not a comma."
TWO_MEANINGS = "“{text}” can mean two numbers: write {large}, or {small} for the smaller one."
NOT_WHOLE = "Enter a whole number{unit}, such as {example}."
NEEDED = "This needs a value; to undo the change, put {was} back."

_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_IN_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:[ _\u00a0\u202f][0-9]{3})+(?:\.[0-9]+)?")
# A thousand to some, one to others.
_TWO_MEANINGS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+")


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
    """Whether two texts of one input mean the same; never when one could mean two things."""
    text, was = text.strip(), was.strip()
    if text == was or field is None or field.kind not in ("integer", "number"):
        return text == was
    return has_one_meaning(text) and read_decimal(text) == read_decimal(was) is not None


def read_decimal(text: str) -> Decimal | None:
    """The number that a person typed: 1500, 0.5, 1 500; None when it is none."""
    text = text.strip()
    if len(text) > 40 or not (_PLAIN.fullmatch(text) or _IN_THOUSANDS.fullmatch(text)):
        return None
    number = Decimal(re.sub(r"[\s_]", "", text))
    return number if abs(number.adjusted()) <= 18 else None


def has_one_meaning(text: str) -> bool:
    """Whether nobody reads `text` as another number: 1.000 is a thousand in half of Europe."""
    return _TWO_MEANINGS.fullmatch(text.strip()) is None


def _number(field: Field, text: str) -> Decimal:
    if not has_one_meaning(text):
        raise Unreadable(_two_meanings(text))
    number = read_decimal(text)
    if number is None:
        sentence = COMMA if "," in text else NOT_A_NUMBER
        raise Unreadable(sentence.format(unit=_of_unit(field), example=_example(field)))
    return number


def _two_meanings(text: str) -> str:
    large = text.replace(".", "")
    if text.count(".") > 1:
        return f"“{text}” has more than one dot: write {large}."
    small = text.rstrip("0").rstrip(".")
    small += "" if has_one_meaning(small) else "0"
    return TWO_MEANINGS.format(text=text, large=large, small=small)


def _json_number(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)


def _example(field: Field) -> str:
    value = field.default if field.default is not None else field.minimum
    return shown(field, value) or "1"


def _of_unit(field: Field) -> str:
    unit = "percent" if field.unit == "ratio" else field.unit
    return f" ({unit})" if unit else ""

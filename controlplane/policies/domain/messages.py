"""Sentences about what is wrong with a field: what was given, and what would be right."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping

from controlplane.policies.domain.fields import DOCUMENT, Field, Section, list_fields
from controlplane.policies.domain.outbound import RETRY_CAUSE_FORM

_SHOWN_CHARACTERS = 60
_BARE_UNITS = ("ratio", "level", "times")  # "a number from 0 to 1", not "a number of ratio"
_TIME_UNITS = ("ms", "s")


def expected(node: Field | Section) -> str:
    """Say what stands at a place of the document: "a whole number of ms from 1 to 600000"."""
    if isinstance(node, Section):
        if node.names is not None:
            return f"an object with one entry for each {node.names.noun}"
        return f"an object with {_listed(node.children)}"
    if node.kind in ("integer", "number"):
        noun = "a whole number" if node.kind == "integer" else "a number"
        unit = "" if node.unit in _BARE_UNITS else f" of {node.unit}"
        return f"{noun}{unit} from {_number(node.minimum)} to {_number(node.maximum)}"
    if node.kind == "boolean":
        return "true or false"
    if node.kind == "choice":
        return f"one of {', '.join(node.choices)}"
    return f"a list of {RETRY_CAUSE_FORM}"


def wrong_kind(node: Field | Section, given: object) -> str:
    """The value is of another JSON type than the field."""
    said = f"expected {expected(node)}, not {shown(given)}"
    if given is None:
        return f"{said}: leave it out to take the value of the layer below"
    if not isinstance(node, Field):
        return said
    if isinstance(given, str) and node.kind == "list":
        return f"{said}: write [{json.dumps(given)}]"
    if isinstance(given, str):
        return said + _without_quotes(node, given)
    if node.kind == "integer" and isinstance(given, float):
        near = max(int(node.minimum or 0), int(given))
        return f"{said}: write {near}"
    if node.kind == "boolean" and given in (0, 1) and not isinstance(given, bool):
        return f"{said}: write {'true' if given else 'false'}"
    return said


def out_of_range(field: Field, given: float) -> str:
    """The number is finite and of the right type, and too small or too large."""
    unit = "" if field.unit == "level" else f" {field.unit}"
    said = f"{_number(given)} is outside {_number(field.minimum)} to {_number(field.maximum)}{unit}"
    if field.unit == "ratio" and 1 < given <= 100:
        return f"{said}: for {_number(given)}% write {_number(given / 100)}"
    return said


def wrong_choice(field: Field, given: object) -> str:
    """The value is none of the words the field takes."""
    said = f"{_quoted(given)} is not one of {', '.join(field.choices)}"
    return said + _suggested(str(given).lower(), field.choices)


def wrong_choice_or_kind(field: Field, given: object) -> str:
    """A word was expected: another word, or not a word at all."""
    return wrong_choice(field, given) if isinstance(given, str) else wrong_kind(field, given)


def wrong_item(given: object) -> str:
    """An item of a retry list is not a failure that can be retried."""
    said = f"{_quoted(given)} is not {RETRY_CAUSE_FORM}"
    if isinstance(given, int) and not isinstance(given, bool):
        return f'{said}: write "{given}"' if 500 <= given <= 599 else said
    return said + _suggested(str(given), ("connect_error", "timeout"))


def bad_name(section: Section, given: str) -> str:
    """A key of a map is not a name of its kind."""
    names = section.names
    if names is None:
        return f"{_quoted(given)} is not a name"
    article = "an" if names.noun[0] in "aeiou" else "a"
    method, _, route = given.strip().partition(" ")
    repaired = f"{method.upper()} /{route.strip().lstrip('/')}"
    example = repaired if names.allows(repaired) else names.example
    return (
        f"{_quoted(given)} is not {article} {names.noun}: {names.form}; such as {_quoted(example)}"
    )


def too_many(section: Section | Field, count: int, at_most: int) -> str:
    """A map or list holds more entries than a process should have to obey."""
    noun = section.names.noun if isinstance(section, Section) and section.names else "item"
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count} {plural}: at most {at_most} are allowed"


def unknown_field(section: Section, given: str) -> str:
    """No field of that name is here; say which is near, or where the field lives."""
    said = f"no policy field is named '{given}' here"
    near = _nearest(given, section.children)
    if near is not None:
        child = section.children[near]
        unit = (
            f" (in {child.unit})" if isinstance(child, Field) and child.unit in _TIME_UNITS else ""
        )
        return f"{said}: did you mean '{near}'{unit}?"
    elsewhere = _places_of(given)
    if elsewhere:
        return f"{said}: {given} belongs to {' or '.join(elsewhere)}"
    return f"{said}; there are {_listed(section.children)}"


def shown(value: object) -> str:
    """Show a value as it was given, shortened; text says that it is text."""
    return f"text {_quoted(value)}" if isinstance(value, str) else _quoted(value)


def kind_of(value: object) -> str:
    """Name a value's JSON type with its article, for sentences."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list) else f"a Python {type(value).__name__}"


def _quoted(value: object) -> str:
    if isinstance(value, str | int | float | bool) or value is None:
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return kind_of(value)


def _without_quotes(field: Field, given: str) -> str:
    text = given.strip()
    if field.kind == "boolean" and text.lower() in ("true", "false"):
        return f": write {text.lower()} without quotes"
    digits = text.removesuffix(field.unit).removesuffix("%").strip()
    if field.kind not in ("integer", "number") or not digits.replace(".", "", 1).isdecimal():
        return ""
    value = float(digits) / 100 if text.endswith("%") else float(digits)
    if field.kind == "integer" and not value.is_integer():
        return ""
    return f": write {_number(value)} without quotes"


def _nearest(given: str, known: Iterable[str]) -> str | None:
    """The known word probably meant: another unit of the same thing, or a near spelling."""
    words = list(known)
    stem, _, unit = given.rpartition("_")
    if unit in ("s", "ms", "us", "seconds", "millis", "milliseconds", "sec", "secs"):
        for word in words:
            if stem and word.rpartition("_")[0] == stem:
                return word
    plain = given.lower().replace("-", "_")
    if plain in words:
        return plain
    camel = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in given)
    found = difflib.get_close_matches(camel.strip("_"), words, n=1, cutoff=0.7)
    if found:
        return found[0]
    extended = [word for word in words if f"_{plain}_" in f"_{word}_"]
    return extended[0] if len(extended) == 1 and plain else None


def _suggested(given: str, known: Iterable[str]) -> str:
    near = _nearest(given, known)
    return "" if near is None else f"; did you mean {near}?"


def _places_of(name: str) -> list[str]:
    """Where a field of this name exists, shortest first, at most three."""
    places: dict[str, None] = {}
    for field in list_fields():
        parts = field.path.split(".")
        for length, part in enumerate(parts, start=1):
            if part == name:
                places[".".join(parts[:length])] = None
    if name in DOCUMENT.children:
        places[name] = None
    return sorted(places, key=lambda place: (place.count("."), len(place)))[:3]


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    whole = isinstance(value, int) or value.is_integer()
    return str(int(value)) if whole else repr(value)

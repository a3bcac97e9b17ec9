"""Policy values in words: units from the schema, ratios as percent, absence as "none"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.errors import Problem
from controlplane.kernel.jsondoc import parse_path
from controlplane.policies.domain.diff import FieldChange
from controlplane.policies.domain.fields import Field, field_for

UNIT_AFTER = {"ratio": "%", "requests/s": " /s", "retries/s": " /s", "times": "×"}
# Units that the field's own title says, or that read oddly after a number.
UNSAID = frozenset({"", "level", "attempts", "requests", "calls", "s or calls"})


@dataclass(frozen=True, slots=True)
class ChangedField:
    """One field before and after, ready to print."""

    path: str
    before: str
    after: str


def value_text(path: str, value: object) -> str:
    """600 at attempt_ms -> "600 ms", 0.1 at budget.ratio -> "10%", None -> "none"."""
    return value_of_field(field_for(path), value)


def value_of_field(field: Field | None, value: object) -> str:
    """`value` in the unit of `field`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value) or "nothing"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items()) or "nothing"
    unit = "" if field is None else field.unit or ""
    if unit == "ratio" and isinstance(value, int | float):
        return f"{_number(value * 100)}%"
    return f"{_plain(value)}{unit_suffix(unit)}"


def unit_suffix(unit: str) -> str:
    """What follows a number: " ms", " /s", "%"."""
    if unit in UNSAID:
        return ""
    return UNIT_AFTER.get(unit, f" {unit}")


def changed_fields(changes: Sequence[FieldChange]) -> tuple[ChangedField, ...]:
    """Every change in words; a field that was or becomes absent reads "none"."""
    return tuple(
        ChangedField(
            path=change.path,
            before=value_text(change.path, change.before),
            after=value_text(change.path, change.after),
        )
        for change in changes
    )


def problem_text(problem: Problem, patch: Mapping[str, Any]) -> str:
    """What the schema says of a field, in percent where the page shows percent."""
    field = field_for(problem.path)
    value = _value_at(problem.path, patch) if field is not None else None
    if field is None or field.unit != "ratio" or not isinstance(value, int | float):
        return problem.message
    if field.minimum is None or field.maximum is None:
        return problem.message
    if field.minimum <= value <= field.maximum:
        return problem.message
    low, high = value_of_field(field, field.minimum), value_of_field(field, field.maximum)
    return f"{value_of_field(field, value)} is outside {low} to {high}"


def _value_at(path: str, patch: Mapping[str, Any]) -> Any:
    value: Any = patch
    for part in parse_path(path):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} {_plain(each)}" for key, each in value.items()) + "}"
    return _number(value) if isinstance(value, int | float) else str(value)


def _number(value: float) -> str:
    rounded = round(value, 6)
    return f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,g}"

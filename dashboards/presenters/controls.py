"""One control of the Tune page: a policy field, what it is now, where from, and what it beat."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controlplane.kernel.jsondoc import format_path
from controlplane.policies.domain.fields import Field, field_for
from controlplane.policies.domain.resolve import Leaf, Resolved
from controlplane.telemetry.domain.picture import ServiceSignals
from dashboards.presenters.live import Live, live_of
from dashboards.presenters.values import value_of_field
from dashboards.templatetags.policy_text import may_be_empty, shown

ROOM = 4  # the slider reaches this many times the present or live value
FINE_STEPS = 200


@dataclass(frozen=True, slots=True)
class Slider:
    """The range input beside a number, in the number's own unit."""

    minimum: str
    maximum: str
    step: str
    value: str
    mark: float | None  # where the live value lies, in percent of the width


@dataclass(frozen=True, slots=True)
class Option:
    """One entry of a select."""

    value: str
    is_selected: bool


@dataclass(frozen=True, slots=True)
class Control:
    """One field."""

    path: str
    input_id: str
    title: str
    help: str
    unit: str
    range_text: str
    kind: str
    options: tuple[Option, ...]
    value: str
    was: str
    was_text: str
    origin: str
    beat: str
    live: Live
    slider: Slider | None
    is_optional: bool
    error: str
    note: str

    @property
    def is_changed(self) -> bool:
        """Whether the input holds something else than is in force."""
        return self.value != self.was


def control_of(
    parts: tuple[str, ...],
    *,
    number: int,
    resolved: Resolved,
    signals: ServiceSignals,
    texts: Mapping[str, str],
    errors: Mapping[str, str],
    note_on: Callable[[str], str],
) -> Control | None:
    """Build the control of one field; None when the schema knows no such field.

    Args:
        note_on: what is special about the field at a path for this service; "" for nothing.
        texts: what was typed, by path; the value in force where nothing was.
        errors: problems by path.
    """
    path = format_path(parts)
    field = field_for(path)
    if field is None:
        return None
    leaf = leaf_for(parts, resolved)
    value = None if leaf is None else leaf.value
    is_optional = may_be_empty(field, parts)
    was = shown(field, value)
    text = texts.get(path, was)
    live = live_of(parts, signals)
    return Control(
        path=path,
        input_id=f"field-{number}",
        title=field.title,
        help=field.help,
        unit="%" if field.unit == "ratio" else field.unit,
        range_text=_range_text(field),
        kind="number" if field.kind in ("integer", "number") else "choice",
        options=_options(field, text, is_optional),
        value=text,
        was=was,
        was_text=value_of_field(field, value),
        origin="not set" if value is None or leaf is None else leaf.layer,
        beat=_beat(field, leaf),
        live=live,
        slider=_slider(field, text, was, live),
        is_optional=is_optional,
        error=errors.get(path, ""),
        note=note_on(path),
    )


def leaf_for(parts: tuple[str, ...], resolved: Resolved) -> Leaf | None:
    """The leaf in force at `parts`; of what it would be completed from when nobody set its own."""
    own = resolved.leaves.get(format_path(parts))
    if own is not None:
        return own
    below = _below(parts)
    leaf = None if below is None else resolved.leaves.get(format_path(below))
    if leaf is None or below is None:
        return None
    return dataclasses.replace(leaf, layer=f"{leaf.layer} ({'.'.join(below[:2])})")


def _below(parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """Where a dependency or an endpoint without a value of its own takes it from."""
    if parts[:2] == ("outbound", "dependencies"):
        return ("outbound", "defaults", *parts[3:])
    if parts[:2] == ("inbound", "endpoints"):
        return {
            "deadline_ms": ("inbound", "deadline_ms"),
            "criticality": ("inbound", "shedding", "default_criticality"),
        }.get(parts[3])
    return None


def _beat(field: Field, leaf: Leaf | None) -> str:
    """ "1,000 ms of fleet default v3, 1,000 ms of built in"."""
    if leaf is None:
        return ""
    return ", ".join(f"{value_of_field(field, value)} of {layer}" for layer, value in leaf.beat)


def _range_text(field: Field) -> str:
    if field.minimum is None or field.maximum is None or field.kind not in ("integer", "number"):
        return ""
    return f"{value_of_field(field, field.minimum)} to {value_of_field(field, field.maximum)}"


def _options(field: Field, text: str, is_optional: bool) -> tuple[Option, ...]:
    if field.kind in ("integer", "number"):
        return ()
    choices = ["on", "off"] if field.kind == "boolean" else [str(each) for each in field.choices]
    if is_optional and text == "":
        choices = ["", *choices]
    return tuple(Option(each, each == text) for each in choices)


def _slider(field: Field, text: str, was: str, live: Live) -> Slider | None:
    if field.kind not in ("integer", "number") or field.minimum is None or field.maximum is None:
        return None
    scale = 100 if field.unit == "ratio" else 1
    low, high = field.minimum * scale, field.maximum * scale
    present = _number(text) or _number(was) or _number(shown(field, field.default)) or low
    top = min(high, _round_up(max(present * ROOM, (live.mark or 0) * 1.2, low + 1)))
    if field.unit == "ratio" or high - low <= FINE_STEPS:
        top = high
    step = 1.0 if field.kind == "integer" or top >= 20 else 0.1
    return Slider(
        minimum=f"{low:g}",
        maximum=f"{top:g}",
        step=f"{step:g}",
        value=f"{min(max(present, low), top):g}",
        mark=None if live.mark is None else _place(live.mark, low, top),
    )


def _place(mark: float, low: float, top: float) -> float:
    return round(100 * min(max((mark - low) / (top - low), 0), 1), 1) if top > low else 0.0


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten: a scale that a person can read."""
    if value <= 1:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in (1, 2, 5, 10) if step * size >= value)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

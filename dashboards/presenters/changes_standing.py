"""How an override stands among the others: what of it is in force, and what a revert gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.jsondoc import parse_path
from controlplane.policies.domain.diff import diff, diff_effective
from controlplane.policies.domain.resolve import Layer, resolve
from controlplane.policies.selectors import OverrideRow
from dashboards.presenters.values import changed_fields, value_text

NAMED_AT_MOST = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """Two sentences about one override; `beaten` is empty when all of it is in force."""

    beaten: str
    revert: str


def standing_of(row: OverrideRow, layers: Sequence[Layer]) -> Standing:
    """Compare an override with the layers of its service.

    Args:
        layers: all that are in force, lowest first, as `policy_layers` returns them.
    """
    label = f"override {row.id}"
    names = [layer.label for layer in layers]
    above = layers[names.index(label) + 1 :] if label in names else []
    without = [layer for layer in layers if layer.label != label]
    given = changed_fields(diff_effective(resolve(layers).policy, resolve(without).policy))
    gives = _listed([f"{each.path} {each.after}" for each in given])
    return Standing(
        beaten=_beaten(row.patch, above),
        revert=f"A revert gives {gives}." if given else "A revert changes nothing now.",
    )


def _beaten(patch: Mapping[str, Any], above: Sequence[Layer]) -> str:
    """ "Not in force: override 7 sets inbound.shedding.level to 3."."""
    found: list[str] = []
    for change in diff({}, patch):
        parts = parse_path(change.path)
        winner = next((each for each in reversed(above) if _says(each.document, parts)), None)
        if winner is not None:
            found.append(_sets(winner, change.path, parts))
    return f"Not in force: {_listed(found)}." if found else ""


def _sets(layer: Layer, path: str, parts: tuple[str, ...]) -> str:
    value = _value_at(layer.document, parts)
    if value is None:
        return f"{layer.label} takes {path} away"
    return f"{layer.label} sets {path} to {value_text(path, value)}"


def _says(document: Any, parts: tuple[str, ...]) -> bool:
    """Whether a document decides what stands at a path, itself or by what it says above it."""
    for part in parts:
        if not isinstance(document, Mapping):
            return True  # a null or another value, where the path goes on
        if part not in document:
            return False
        document = document[part]
    return True


def _value_at(document: Any, parts: tuple[str, ...]) -> object:
    for part in parts:
        document = document.get(part) if isinstance(document, Mapping) else None
    return document


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - NAMED_AT_MOST
    named = "; ".join(texts[:NAMED_AT_MOST])
    return f"{named}; and {more} more" if more > 0 else named

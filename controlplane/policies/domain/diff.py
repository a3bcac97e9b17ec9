"""What changed between two policy documents, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controlplane.kernel.jsondoc import format_path

ChangeKind = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs. `before` is None when it was added, `after` when it was removed."""

    path: str
    before: object
    after: object
    kind: ChangeKind


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldChange]:
    """Return every field that differs: in the order of `before`, then what only `after` holds.

    Empty exactly when the documents are equal. An object that appears or goes is told by its
    fields; only an empty one stands for itself.
    """
    return list(_changes(before, after, ()))


def diff_effective(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldChange]:
    """Return every field of two complete policies that differs for whoever the policy governs.

    A dependency that only one of them names was, or will be, called by `outbound.defaults`; an
    endpoint takes its deadline and criticality from its service. So naming one changes only
    what it sets otherwise, not every field it has.
    """
    return diff(_naming_as(before, after), _naming_as(after, before))


def _naming_as(policy: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """`policy`, with the dependencies and endpoints that only `other` names spelt out."""
    inbound, outbound = policy["inbound"], policy["outbound"]
    endpoint = {
        "deadline_ms": inbound["deadline_ms"],
        "criticality": inbound["shedding"]["default_criticality"],
    }
    endpoints = dict.fromkeys(other["inbound"]["endpoints"], endpoint)
    dependencies = dict.fromkeys(other["outbound"]["dependencies"], outbound["defaults"])
    return {
        **policy,
        "inbound": {**inbound, "endpoints": endpoints | inbound["endpoints"]},
        "outbound": {**outbound, "dependencies": dependencies | outbound["dependencies"]},
    }


def _changes(
    before: Mapping[str, Any], after: Mapping[str, Any], parts: tuple[str, ...]
) -> Iterator[FieldChange]:
    for key, old in before.items():
        path = (*parts, key)
        if key not in after:
            yield from _removed(old, path)
        elif isinstance(old, Mapping) and isinstance(after[key], Mapping):
            yield from _changes(old, after[key], path)
        elif not _is_same(old, after[key]):
            yield from _replaced(old, after[key], path)
    for key, new in after.items():
        if key not in before:
            yield from _added(new, (*parts, key))


def _replaced(old: object, new: object, parts: tuple[str, ...]) -> Iterator[FieldChange]:
    """An object against something else; null yields to what the object's fields tell."""
    if isinstance(new, Mapping) and new and old is None:
        yield from _added(new, parts)
    elif isinstance(old, Mapping) and old and new is None:
        yield from _removed(old, parts)
    else:
        yield FieldChange(format_path(parts), old, new, "changed")


def _added(value: object, parts: tuple[str, ...]) -> Iterator[FieldChange]:
    for path, leaf in _leaves(value, parts):
        yield FieldChange(path, None, leaf, "added")


def _removed(value: object, parts: tuple[str, ...]) -> Iterator[FieldChange]:
    for path, leaf in _leaves(value, parts):
        yield FieldChange(path, leaf, None, "removed")


def _leaves(value: object, parts: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, (*parts, key))
    else:
        yield format_path(parts), value


def _is_same(old: object, new: object) -> bool:
    """Equal as JSON: 1 is 1.0, but neither is true."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_is_same, old, new))
    return isinstance(old, bool) == isinstance(new, bool) and old == new

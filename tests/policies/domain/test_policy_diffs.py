"""What changed between two documents, field by field."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given

from controlplane.kernel.jsondoc import parse_path
from controlplane.policies.domain.diff import FieldChange, diff
from controlplane.policies.domain.resolve import Layer, resolve
from tests.policies.domain.documents import documents, patches


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({}, {}, []),
        (
            {"inbound": {"deadline_ms": 3000}},
            {"inbound": {"deadline_ms": 900}},
            [FieldChange("inbound.deadline_ms", 3000, 900, "changed")],
        ),
        (
            {"inbound": {}},
            {"inbound": {"deadline_ms": 900}},
            [FieldChange("inbound.deadline_ms", None, 900, "added")],
        ),
        (
            {"inbound": {"endpoints": {"POST /orders": {"rate": {"per_s": 3, "burst": 1}}}}},
            {"inbound": {"endpoints": {}}},
            [
                FieldChange('inbound.endpoints["POST /orders"].rate.per_s', 3, None, "removed"),
                FieldChange('inbound.endpoints["POST /orders"].rate.burst', 1, None, "removed"),
            ],
        ),
        (
            {"tenants": {"default": None, "named": {}}},
            {"tenants": {"default": {"per_s": 50}, "named": {"acme": {"per_s": 9}}}},
            [
                FieldChange("tenants.default.per_s", None, 50, "added"),
                FieldChange("tenants.named.acme.per_s", None, 9, "added"),
            ],
        ),
        (
            {"tenants": {"default": {"per_s": 50}}},
            {"tenants": {"default": None}},
            [FieldChange("tenants.default.per_s", 50, None, "removed")],
        ),
        ({}, {"tenants": {"default": None}}, [FieldChange("tenants.default", None, None, "added")]),
        (
            {"on": ["503", "timeout"]},
            {"on": ["timeout", "503"]},
            [FieldChange("on", ["503", "timeout"], ["timeout", "503"], "changed")],
        ),
        ({"x": 1}, {"x": 1.0}, []),
        ({"x": [1]}, {"x": [1.0]}, []),
        ({"x": 1}, {"x": True}, [FieldChange("x", 1, True, "changed")]),
        ({"x": {}}, {"x": None}, [FieldChange("x", {}, None, "changed")]),
        ({"x": {}}, {}, [FieldChange("x", {}, None, "removed")]),
        ({"x": {"y": 1}}, {"x": 3}, [FieldChange("x", {"y": 1}, 3, "changed")]),
    ],
    ids=[
        "equal", "changed", "added", "an endpoint removed", "a limit where there was none",
        "a limit taken away", "a deletion added", "order of a list", "1 is 1.0",
        "1 is 1.0 in lists", "1 is not true", "empty against null", "empty removed", "replaced",
    ],
)  # fmt: skip
def test_each_field_that_differs_is_told(
    before: dict[str, Any], after: dict[str, Any], changes: list[FieldChange]
) -> None:
    assert diff(before, after) == changes


@given(documents(), patches())
def test_a_diff_is_empty_exactly_when_the_documents_are_equal(before: Any, after: Any) -> None:
    assert diff(before, before) == []
    assert (diff(before, after) == []) == (before == after)


@given(documents(), documents(), patches())
def test_applying_a_diff_gives_the_other_policy(below: Any, first: Any, second: Any) -> None:
    base = [Layer("fleet_default", "fleet default v1", below)]
    before = resolve([*base, Layer("version", "v1", first)]).policy
    after = resolve([*base, Layer("version", "v2", second)]).policy

    changes = diff(before, after)

    assert applied(before, changes) == nothing_empty(after)
    assert len({change.path for change in changes}) == len(changes)


@given(documents(), documents())
def test_a_diff_backwards_is_the_undo(first: Any, second: Any) -> None:
    forwards = {(each.path, each.kind): (each.before, each.after) for each in diff(first, second)}
    backwards = {(each.path, each.kind): (each.after, each.before) for each in diff(second, first)}
    opposite = {"added": "removed", "removed": "added", "changed": "changed"}

    assert forwards == {
        (path, opposite[kind]): values for (path, kind), values in backwards.items()
    }


def applied(policy: dict[str, Any], changes: list[FieldChange]) -> Any:
    result = copy.deepcopy(policy)
    for change in changes:
        *parents, name = parse_path(change.path)
        place = result
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        if change.kind == "removed":
            del place[name]
        else:
            place[name] = change.after
    return nothing_empty(result)


def nothing_empty(value: Any) -> Any:
    """A policy without empty maps and without nulls, which a diff tells by what replaces them."""
    if not isinstance(value, dict):
        return value
    kept = {key: nothing_empty(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if item is not None and item != {}}

"""Policy documents for tests: one value at a path, and anything a valid document may hold."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from controlplane.kernel.jsondoc import parse_path
from controlplane.policies.domain.fields import DOCUMENT, Field, Node

NAMES = {
    "endpoint": ["POST /orders", "GET /products/{id}", "GET /"],
    "dependency": ["payments", "api.stripe.com", "x"],
    "tenant": ["acme", "globex@eu:1", "7"],
    "feature": ["recommendations", "a"],
}
RETRY_CAUSES = ["connect_error", "timeout", "408", "429", "500", "503", "599"]


def at(path: str, value: object) -> dict[str, Any]:
    """A document that holds one value, at this path."""
    for part in reversed(parse_path(path)):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def flat(value: object, parts: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    """The leaves of a document by path; maps without entries have none."""
    if not isinstance(value, dict):
        return {parts: value}
    return {
        path: leaf
        for key, item in value.items()
        for path, leaf in flat(item, (*parts, key)).items()
    }


def documents() -> st.SearchStrategy[dict[str, Any]]:
    """Any valid sparse document."""
    return _values(DOCUMENT, deletes=False)


def patches() -> st.SearchStrategy[dict[str, Any]]:
    """Any valid override, nulls included; perhaps one that changes nothing."""
    return _values(DOCUMENT, deletes=True)


def _values(node: Node, *, deletes: bool) -> st.SearchStrategy[Any]:
    values = _leaves(node) if isinstance(node, Field) else _objects(node, deletes)
    nullable = node.is_nullable or (deletes and node is not DOCUMENT)
    return st.one_of(values, st.none()) if nullable else values


def _objects(node: Any, deletes: bool) -> st.SearchStrategy[Any]:
    if node.entry is not None:
        entries = _values(node.entry, deletes=deletes)
        return st.dictionaries(st.sampled_from(NAMES[node.names.noun]), entries, max_size=2)
    children = {name: _values(child, deletes=deletes) for name, child in node.children.items()}
    if "per_s" in children and "mode" not in children:  # a tenant's rate, which must say per_s
        per_s = _leaves(node.children["per_s"])
        return st.fixed_dictionaries({"per_s": per_s}, optional={"burst": children["burst"]})
    return st.fixed_dictionaries({}, optional=children)


def _leaves(field: Field) -> st.SearchStrategy[Any]:
    if field.kind == "choice":
        return st.sampled_from(field.choices)
    if field.kind == "boolean":
        return st.booleans()
    if field.kind == "list":
        return st.lists(st.sampled_from(RETRY_CAUSES), unique=True, max_size=3)
    assert field.minimum is not None
    assert field.maximum is not None
    low, high = field.minimum, field.maximum
    whole = st.integers(-(-int(low * 100) // 100), int(high)).filter(lambda value: value >= low)
    if field.kind == "integer":
        return whole
    return st.one_of(whole, st.floats(low, high, allow_nan=False))

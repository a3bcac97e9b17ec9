"""The effective policy: layers merged, completed, and explained leaf by leaf.

Layers merge as RFC 7396 says: an object merges, a null deletes, anything else replaces. Then
each field that nobody set is completed: a dependency from `outbound.defaults`, an endpoint from
its service, everything else from the built-in policy. What any layer sets for one dependency or
one endpoint outranks what any layer sets for all of them.

No merged document is built on the way: at each place of the policy stands what every layer says
there, strongest first, and from that follow both the value and its explanation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from controlplane.kernel.jsondoc import format_path
from controlplane.policies.domain.declare import Block
from controlplane.policies.domain.inbound import Feature, Idempotency, TenantRate
from controlplane.policies.domain.schema import builtin_policy, defaults_of

LayerKind = Literal["built_in", "fleet_default", "version", "override"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One document that takes part: what kind it is, what people call it, and what it says."""

    kind: LayerKind
    label: str
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of the effective policy, and why it is that value.

    `layer` names the layer that won: "v42", or "fleet default v3 (outbound.defaults)" when the
    value was completed from there. `beat` is what lost, strongest first: (layer, value).
    `removed_by` is the layer whose null deleted what lower layers said, where a completed value
    took its place.
    """

    path: str
    value: Any
    layer: str
    kind: LayerKind
    beat: tuple[tuple[str, object], ...] = ()
    removed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A complete policy, and its leaves by path, both in document order."""

    policy: dict[str, Any]
    leaves: dict[str, Leaf]


# What the layers say at one place, strongest first: None for a null there or anywhere above.
Said: TypeAlias = list[tuple[Layer, Any]]
# An object of the policy: a Leaf under each field, a further Tree under each object.
Tree: TypeAlias = dict[str, Any]

_MISSING: Any = object()  # the value of a field that no layer gives and that has no default


def resolve(layers: Sequence[Layer]) -> Resolved:
    """Return the effective policy of layers given weakest first; the built-in one is implied.

    It is complete, except that nothing can complete the `per_s` of a tenant's limit;
    `checks.check_policy` names those that lack one.
    """
    said: Said = [(layer, layer.document) for layer in reversed(layers)]
    tree = {
        "inbound": _inbound(_under(said, "inbound")),
        "outbound": _outbound(_under(said, "outbound")),
        "lifecycle": _completed(_under(said, "lifecycle"), _BUILT_IN["lifecycle"], "lifecycle"),
    }
    leaves: dict[str, Leaf] = {}
    return Resolved(_values(tree, leaves), leaves)


def _inbound(said: Said) -> Tree:
    built_in = _BUILT_IN["inbound"]
    shedding = _completed(_under(said, "shedding"), built_in["shedding"], "inbound.shedding")
    service: Tree = {
        "deadline_ms": _leaf(
            _under(said, "deadline_ms"), built_in["deadline_ms"], "inbound.deadline_ms"
        ),
        "concurrency": _completed(
            _under(said, "concurrency"), built_in["concurrency"], "inbound.concurrency"
        ),
        "rate": _completed(_under(said, "rate"), built_in["rate"], "inbound.rate"),
        "tenants": _tenants(_under(said, "tenants"), built_in["tenants"], "inbound.tenants"),
    }
    endpoints = {
        key: _endpoint(entry, service, shedding, f"inbound.endpoints{_subscript(key)}")
        for key, entry in _entries(_under(said, "endpoints"))
    }
    features = {
        name: _completed(entry, _FEATURE, f"inbound.features{_subscript(name)}")
        for name, entry in _entries(_under(said, "features"))
    }
    return {**service, "endpoints": endpoints, "shedding": shedding, "features": features}


def _endpoint(said: Said, service: Tree, shedding: Tree, path: str) -> Tree:
    """Deadline and criticality always; a limit only where the endpoint sets one."""
    endpoint: Tree = {
        "deadline_ms": _leaf(
            _under(said, "deadline_ms"),
            service["deadline_ms"],
            f"{path}.deadline_ms",
            " (inbound.deadline_ms)",
        ),
        "criticality": _leaf(
            _under(said, "criticality"),
            shedding["default_criticality"],
            f"{path}.criticality",
            " (inbound.shedding.default_criticality)",
        ),
    }
    if _is_set(rate := _under(said, "rate")):
        endpoint["rate"] = _completed(rate, service["rate"], f"{path}.rate", " (inbound.rate)")
    if _is_set(concurrency := _under(said, "concurrency")):
        endpoint["concurrency"] = _completed(
            concurrency, service["concurrency"], f"{path}.concurrency", " (inbound.concurrency)"
        )
    if _is_set(tenants := _under(said, "tenants")):
        endpoint["tenants"] = _tenants(
            tenants, service["tenants"], f"{path}.tenants", " (inbound.tenants)"
        )
    if _is_set(idempotency := _under(said, "idempotency")):
        endpoint["idempotency"] = _completed(idempotency, _IDEMPOTENCY, f"{path}.idempotency")
    return endpoint


def _tenants(said: Said, fallback: Tree, path: str, via: str = "") -> Tree:
    """The default may be null; a named tenant takes what it lacks from the default.

    Names are not taken from the fallback: the share of an endpoint is not that of its service.
    """
    default = _default_rate(_under(said, "default"), fallback["default"], f"{path}.default", via)
    base, origin = _base_rate(default, f" ({path}.default)")
    named = {
        name: _completed(entry, base, f"{path}.named{_subscript(name)}", origin)
        for name, entry in _entries(_under(said, "named"))
    }
    mode = _leaf(_under(said, "mode"), fallback["mode"], f"{path}.mode", via)
    return {"default": default, "named": named, "mode": mode}


def _default_rate(said: Said, fallback: Any, path: str, via: str) -> Any:
    if _is_set(said):
        base, origin = _base_rate(fallback, via)
        return _completed(said, base, path, origin)
    if isinstance(fallback, dict):
        return _completed(said, fallback, path, via)
    return _leaf(said, fallback, path, via)


def _base_rate(default: Any, via: str) -> tuple[Tree, str]:
    return (default, via) if isinstance(default, dict) else (_TENANT_RATE, "")


def _outbound(said: Said) -> Tree:
    defaults = _completed(
        _under(said, "defaults"), _BUILT_IN["outbound"]["defaults"], "outbound.defaults"
    )
    dependencies = {
        name: _completed(
            entry, defaults, f"outbound.dependencies{_subscript(name)}", " (outbound.defaults)"
        )
        for name, entry in _entries(_under(said, "dependencies"))
    }
    return {"defaults": defaults, "dependencies": dependencies}


def _completed(said: Said, fallback: Tree, path: str, via: str = "") -> Tree:
    """Return every field that `fallback` has, each as the strongest layer that sets it says."""
    tree: Tree = {}
    for name, under in fallback.items():
        complete = _completed if type(under) is dict else _leaf
        tree[name] = complete(_under(said, name), under, f"{path}.{name}", via)
    return tree


def _leaf(said: Said, fallback: Any, path: str, via: str = "") -> Leaf:
    """Return the strongest value said here, else the fallback's, as coming `via` a block."""
    if not said:
        if not via:
            return Leaf(path, fallback.value, fallback.layer, fallback.kind, fallback.beat)
        beat = tuple([(label + via, value) for label, value in fallback.beat])
        return Leaf(path, fallback.value, fallback.layer + via, fallback.kind, beat)
    layer, value = said[0]
    older = tuple([(label + via, value) for label, value in fallback.beat])
    if value is None and fallback.value is not None:
        return Leaf(
            path,
            fallback.value,
            fallback.layer + via,
            fallback.kind,
            _lost(said) + older,
            removed_by=layer.label,
        )
    below = () if fallback.value is _MISSING else ((fallback.layer + via, fallback.value),)
    return Leaf(path, value, layer.label, layer.kind, _lost(said[1:]) + below + older)


def _lost(said: Said) -> tuple[tuple[str, object], ...]:
    return tuple([(layer.label, value) for layer, value in said if value is not None])


def _under(said: Said, key: str) -> Said:
    """Return what is said one level down; a null above deletes everything under it."""
    found: Said = []
    for layer, value in said:
        if value is None:
            found.append((layer, None))
        elif key in value:
            found.append((layer, value[key]))
    return found


def _is_set(said: Said) -> bool:
    return bool(said) and said[0][1] is not None


def _entries(said: Said) -> Iterator[tuple[str, Said]]:
    """Yield the entries that are left of a map, those of the weakest layer first."""
    names: dict[str, None] = {}
    for _, value in reversed(said):
        if value is not None:
            names.update(dict.fromkeys(value))
    for name in names:
        entry = _under(said, name)
        if _is_set(entry):
            yield name, entry


@lru_cache(maxsize=4096)
def _subscript(key: str) -> str:
    """Spell a key as it stands after a path: `.payments`, `["POST /orders"]`."""
    return format_path(("_", key))[1:]


def _values(tree: Tree, leaves: dict[str, Leaf]) -> dict[str, Any]:
    """Return the values of a tree, noting its leaves."""
    values: dict[str, Any] = {}
    for name, under in tree.items():
        if type(under) is dict:
            values[name] = _values(under, leaves)
        elif under.value is not _MISSING:
            leaves[under.path] = under
            # A list must not be shared with the stored document it came from.
            values[name] = list(under.value) if type(under.value) is list else under.value
    return values


def _built_in(values: Mapping[str, Any], path: str = "") -> Tree:
    return {
        name: _built_in(value, f"{path}{name}.")
        if isinstance(value, dict)
        else Leaf(f"{path}{name}", value, "built in", "built_in")
        for name, value in values.items()
    }


def _built_in_block(block: type[Block], *, needs: tuple[str, ...] = ()) -> Tree:
    values = defaults_of(block)
    return _built_in({name: _MISSING if name in needs else values[name] for name in values})


_BUILT_IN = _built_in(builtin_policy())
_FEATURE = _built_in_block(Feature)
_IDEMPOTENCY = _built_in_block(Idempotency)
_TENANT_RATE = _built_in_block(TenantRate, needs=("per_s",))

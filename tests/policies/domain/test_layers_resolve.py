"""Layers resolve to one complete policy, and every leaf says where it comes from."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.jsondoc import format_path, merge_patch
from controlplane.policies.domain.resolve import Layer, LayerKind, Leaf, resolve
from controlplane.policies.domain.schema import EXAMPLE, builtin_policy
from tests.policies.domain.documents import at, documents, flat, patches

ORDERS = 'inbound.endpoints["POST /orders"]'
PAYMENTS = "outbound.dependencies.payments"


def fleet(document: dict[str, Any]) -> Layer:
    return Layer("fleet_default", "fleet default v3", document)


def version(document: dict[str, Any]) -> Layer:
    return Layer("version", "v42", document)


def override(document: dict[str, Any], number: int = 17) -> Layer:
    return Layer("override", f"override {number}", document)


def leaf(path: str, *layers: Layer) -> Leaf:
    return resolve(layers).leaves[path]


def test_nothing_said_is_the_built_in_policy() -> None:
    resolved = resolve([])

    assert resolved.policy == builtin_policy()
    assert {each.layer for each in resolved.leaves.values()} == {"built in"}
    assert list(resolved.leaves) == [format_path(path) for path in flat(builtin_policy())]


def test_the_strongest_layer_wins_and_names_what_it_beat() -> None:
    path = "inbound.rate.per_s"

    found = leaf(path, fleet(at(path, 800)), version(at(path, 500)), override(at(path, 300)))

    assert found == Leaf(
        path=path,
        value=300,
        layer="override 17",
        kind="override",
        beat=(("v42", 500), ("fleet default v3", 800), ("built in", 1000)),
    )


def test_overrides_apply_oldest_first() -> None:
    path = "inbound.shedding.level"

    found = leaf(path, override(at(path, 1), 17), override(at(path, 2), 18))

    assert (found.value, found.layer) == (2, "override 18")
    assert found.beat == (("override 17", 1), ("built in", 0))


def test_a_null_returns_a_field_to_the_built_in_value_and_says_who_removed_it() -> None:
    path = "inbound.deadline_ms"

    found = leaf(path, fleet(at(path, 2000)), version(at(path, 900)), override(at(path, None)))

    assert found == Leaf(
        path=path,
        value=3000,
        layer="built in",
        kind="built_in",
        beat=(("v42", 900), ("fleet default v3", 2000)),
        removed_by="override 17",
    )


def test_a_null_over_an_object_removes_all_of_it() -> None:
    resolved = resolve([version(at("inbound", EXAMPLE["inbound"])), override(at("inbound", None))])

    assert resolved.policy == builtin_policy()
    assert resolved.leaves["inbound.rate.per_s"].removed_by == "override 17"


def test_a_null_that_is_the_value_is_attributed_to_its_layer() -> None:
    path = "inbound.tenants.default"

    found = leaf(path, fleet(at(path, {"per_s": 50})), version(at(path, None)))

    assert (found.value, found.layer) == (None, "v42")
    assert found.beat == (("fleet default v3", {"per_s": 50}), ("built in", None))


def test_an_entry_removed_and_set_again_starts_from_nothing() -> None:
    layers = [
        fleet(at(f"{PAYMENTS}.timeouts.attempt_ms", 100)),
        version(at(PAYMENTS, None)),
        override(at(f"{PAYMENTS}.retry.max_attempts", 1)),
    ]

    resolved = resolve(layers)

    assert resolved.policy["outbound"]["dependencies"]["payments"]["timeouts"]["attempt_ms"] == 1000
    assert resolved.leaves[f"{PAYMENTS}.timeouts.attempt_ms"].removed_by == "v42"


def test_an_entry_that_is_removed_is_not_delivered() -> None:
    resolved = resolve([fleet(at(PAYMENTS, {})), version(at(PAYMENTS, None))])

    assert resolved.policy["outbound"]["dependencies"] == {}


def test_a_dependency_takes_what_it_lacks_from_the_defaults_and_says_so() -> None:
    layers = [
        fleet(at("outbound.defaults.breaker.open_s", 5)),
        version(at(f"{PAYMENTS}.timeouts.attempt_ms", 600)),
    ]

    resolved = resolve(layers)

    payments = resolved.policy["outbound"]["dependencies"]["payments"]
    assert payments["timeouts"] == {"connect_ms": 250, "attempt_ms": 600}
    assert payments["breaker"]["open_s"] == 5
    assert resolved.leaves[f"{PAYMENTS}.breaker.open_s"] == Leaf(
        path=f"{PAYMENTS}.breaker.open_s",
        value=5,
        layer="fleet default v3 (outbound.defaults)",
        kind="fleet_default",
        beat=(("built in (outbound.defaults)", 15),),
    )


def test_what_a_lower_layer_sets_for_a_dependency_outranks_higher_defaults() -> None:
    ratio = "retry.budget.ratio"
    layers = [
        fleet(at(f"{PAYMENTS}.{ratio}", 0.3)),
        version(at(f"outbound.defaults.{ratio}", 0.2)),
        override(at(f"outbound.defaults.{ratio}", 0.05)),
    ]

    found = leaf(f"{PAYMENTS}.{ratio}", *layers)

    assert (found.value, found.layer) == (0.3, "fleet default v3")
    assert found.beat == (
        ("override 17 (outbound.defaults)", 0.05),
        ("v42 (outbound.defaults)", 0.2),
        ("built in (outbound.defaults)", 0.1),
    )


def test_removing_the_value_of_a_dependency_leaves_it_the_defaults() -> None:
    layers = [
        version(at(f"{PAYMENTS}.timeouts.attempt_ms", 600)),
        override(at(f"{PAYMENTS}.timeouts", None)),
    ]

    found = leaf(f"{PAYMENTS}.timeouts.attempt_ms", *layers)

    assert (found.value, found.layer) == (1000, "built in (outbound.defaults)")
    assert (found.removed_by, found.beat) == ("override 17", (("v42", 600),))


def test_a_list_replaces_the_list_below() -> None:
    path = "outbound.defaults.retry.on"

    found = leaf(path, version(at(path, ["503"])))

    assert found.value == ["503"]
    assert found.beat == (("built in", ["connect_error", "timeout", "503"]),)


def test_an_endpoint_takes_deadline_and_criticality_from_its_service() -> None:
    layers = [
        version({"inbound": {"deadline_ms": 900, "endpoints": {"POST /orders": {}}}}),
        override(at("inbound.shedding.default_criticality", "sheddable")),
    ]

    resolved = resolve(layers)

    assert resolved.policy["inbound"]["endpoints"] == {
        "POST /orders": {"deadline_ms": 900, "criticality": "sheddable"}
    }
    assert resolved.leaves[f"{ORDERS}.deadline_ms"].layer == "v42 (inbound.deadline_ms)"
    assert (
        resolved.leaves[f"{ORDERS}.criticality"].layer
        == "override 17 (inbound.shedding.default_criticality)"
    )


def test_an_endpoint_completes_only_the_limits_it_sets() -> None:
    layers = [
        version(at(ORDERS, {"rate": {"per_s": 30}, "idempotency": {"required": True}})),
        override(at("inbound.rate.burst", 7)),
    ]

    resolved = resolve(layers)

    endpoint = resolved.policy["inbound"]["endpoints"]["POST /orders"]
    assert list(endpoint) == ["deadline_ms", "criticality", "rate", "idempotency"]
    assert endpoint["rate"] == {"per_s": 30, "burst": 7, "mode": "enforce"}
    assert endpoint["idempotency"] == {"required": True, "ttl_s": 86400}
    assert resolved.leaves[f"{ORDERS}.rate.burst"].layer == "override 17 (inbound.rate)"
    assert resolved.leaves[f"{ORDERS}.idempotency.ttl_s"].layer == "built in"


def test_a_null_takes_a_limit_of_an_endpoint_away() -> None:
    layers = [version(at(f"{ORDERS}.rate", {"per_s": 30})), override(at(f"{ORDERS}.rate", None))]

    assert "rate" not in resolve(layers).policy["inbound"]["endpoints"]["POST /orders"]


def test_a_named_tenant_takes_what_it_lacks_from_the_default() -> None:
    tenants = {"default": {"per_s": 50, "burst": 9}, "named": {"acme": {"per_s": 220}}}

    resolved = resolve([version(at("inbound.tenants", tenants))])

    assert resolved.policy["inbound"]["tenants"]["named"]["acme"] == {"per_s": 220, "burst": 9}
    assert (
        resolved.leaves["inbound.tenants.named.acme.burst"].layer == "v42 (inbound.tenants.default)"
    )


def test_tenants_of_an_endpoint_take_default_and_mode_but_no_names() -> None:
    tenants = {"default": {"per_s": 50}, "named": {"acme": {"per_s": 220}}, "mode": "shadow"}
    endpoint = {"tenants": {"named": {"globex": {"per_s": 5}}}}

    resolved = resolve(
        [version({"inbound": {"tenants": tenants, "endpoints": {"GET /": endpoint}}})]
    )

    assert resolved.policy["inbound"]["endpoints"]["GET /"]["tenants"] == {
        "default": {"per_s": 50, "burst": 20},
        "named": {"globex": {"per_s": 5, "burst": 20}},
        "mode": "shadow",
    }


def test_a_feature_is_completed() -> None:
    resolved = resolve([version(at("inbound.features.recommendations", {"off_at_level": 1}))])

    assert resolved.policy["inbound"]["features"] == {
        "recommendations": {"enabled": True, "off_at_level": 1}
    }


def test_what_is_resolved_shares_nothing_with_the_layers() -> None:
    document = at("outbound.defaults.retry.on", ["503"])

    resolved = resolve([version(document)])
    resolved.policy["outbound"]["defaults"]["retry"]["on"].append("timeout")
    resolved.policy["inbound"]["rate"]["per_s"] = 1

    assert document == at("outbound.defaults.retry.on", ["503"])
    assert resolve([]).policy == builtin_policy()


KINDS: tuple[LayerKind, ...] = ("fleet_default", "version", "override", "override")


def layered(*said: dict[str, Any]) -> list[Layer]:
    return [
        Layer(kind, f"{kind} {index}", document)
        for index, (kind, document) in enumerate(zip(KINDS, said, strict=False))
    ]


LAYERS = st.tuples(documents(), documents(), patches(), patches()).map(lambda said: layered(*said))


@given(LAYERS)
def test_the_policy_is_what_merging_and_completing_gives(layers: list[Layer]) -> None:
    merged: Any = {}
    for layer in layers:
        merged = merge_patch(merged, layer.document)

    assert resolve(layers).policy == plainly_completed(merged)


@given(LAYERS)
def test_every_leaf_is_explained_with_the_value_it_has(layers: list[Layer]) -> None:
    before = copy.deepcopy(layers)

    resolved = resolve(layers)

    assert layers == before
    assert [(path, each.value) for path, each in resolved.leaves.items()] == [
        (format_path(path), value) for path, value in flat(resolved.policy).items()
    ]
    labels = {"built in", *(layer.label for layer in layers)}
    for path, each in resolved.leaves.items():
        assert each.path == path
        assert each.layer.partition(" (")[0] in labels
        assert each.removed_by is None or each.removed_by in labels


@given(documents(), patches())
def test_what_the_strongest_layer_sets_is_in_force(below: Any, above: Any) -> None:
    resolved = resolve(layered(below, above))

    for path, value in flat(above).items():
        if value is not None and value != {}:
            assert resolved.leaves[format_path(path)].value == value
            assert resolved.leaves[format_path(path)].layer == "version 1"


@given(documents(), patches(), patches())
def test_two_layers_are_worth_their_merge(first: Any, second: Any, third: Any) -> None:
    apart = resolve(layered(first, second, third)).policy

    assert resolve(layered(first, {}, second, third)).policy == apart
    assert resolve(layered(merge_patch(merge_patch(first, second), third))).policy == apart


@pytest.mark.parametrize("document", [{}, EXAMPLE], ids=["nothing", "an example"])
def test_resolving_a_delivered_policy_again_changes_nothing(document: dict[str, Any]) -> None:
    policy = resolve([version(document)]).policy

    assert resolve([version(policy)]).policy == policy


def plainly_completed(merged: Any) -> dict[str, Any]:
    """Complete a merged document the slow and obvious way."""
    policy = merge_patch(builtin_policy(), merged)
    policy["inbound"]["tenants"].setdefault("default", None)
    inbound = policy["inbound"]
    service = copy.deepcopy(inbound)
    complete_tenants(inbound["tenants"], None)
    for endpoint in inbound["endpoints"].values():
        endpoint.setdefault("deadline_ms", service["deadline_ms"])
        endpoint.setdefault("criticality", service["shedding"]["default_criticality"])
        for name in ("rate", "concurrency"):
            if name in endpoint:
                endpoint[name] = merge_patch(service[name], endpoint[name])
        if "tenants" in endpoint:
            endpoint["tenants"].setdefault("mode", service["tenants"]["mode"])
            complete_tenants(endpoint["tenants"], inbound["tenants"]["default"])
        if "idempotency" in endpoint:
            stated = endpoint["idempotency"]
            endpoint["idempotency"] = {"required": False, "ttl_s": 86400, **stated}
    for feature in inbound["features"].values():
        feature.setdefault("enabled", True)
        feature.setdefault("off_at_level", None)
    outbound = policy["outbound"]
    outbound["dependencies"] = {
        name: merge_patch(outbound["defaults"], own)
        for name, own in outbound["dependencies"].items()
    }
    return dict(policy)


def complete_tenants(tenants: dict[str, Any], fallback: dict[str, Any] | None) -> None:
    own = tenants.get("default")
    base = {"burst": 20, **(fallback or {})}
    tenants["default"] = fallback if own is None else {**base, **own}
    base = {"burst": 20, **(tenants["default"] or {})}
    tenants["named"] = {
        name: {**base, **stated} for name, stated in tenants.get("named", {}).items()
    }

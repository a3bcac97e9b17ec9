"""The list of where each field goes in Envoy: whole, and true of what is sent."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controlplane.delivery.adapters.xds_clusters import clusters
from controlplane.delivery.adapters.xds_node import EnvoyNode, ManagedCluster
from controlplane.delivery.adapters.xds_places import PLACES, Way, find_place, note_on
from controlplane.delivery.adapters.xds_routes import inbound_routes, outbound_routes
from controlplane.delivery.adapters.xds_runtime import runtime
from controlplane.kernel.jsondoc import merge_patch, parse_path
from controlplane.policies.domain.checks import check_policy
from controlplane.policies.domain.fields import Field, field_for, list_fields
from controlplane.policies.domain.schema import PolicyDocument
from tests.delivery.envoy_policies import complete
from tests.policies.domain.documents import at

NODE = EnvoyNode(
    "local_service",
    (
        ManagedCluster("local_service", (("127.0.0.1", 1),)),
        ManagedCluster("payments", (("10.0.0.1", 2),)),
        ManagedCluster("other", (("10.0.0.2", 3),)),
    ),
)
LIMIT = {"per_s": 7, "burst": 5}
BASE: dict[str, Any] = {
    "inbound": {
        "tenants": {"default": LIMIT, "named": {"acme": LIMIT}},
        "endpoints": {
            "POST /orders": {
                "rate": {"per_s": 9, "burst": 6},
                "concurrency": {"max": 11},
                "tenants": {"default": LIMIT, "named": {"globex": LIMIT}},
                "idempotency": {"required": False, "ttl_s": 86_400},
            }
        },
        "features": {"recommendations": {"enabled": True, "off_at_level": 2}},
    },
    # Breakers that differ, so that each goes by cluster; open_s longer than their windows.
    "outbound": {
        "defaults": {"breaker": {"open_s": 60}},
        "dependencies": {"payments": {"breaker": {"min_calls": 21}}},
    },
}
NAMES = {
    "<endpoint>": "POST /orders", "<feature>": "recommendations", "<dependency>": "payments",
}  # fmt: skip


def concrete(pattern: str) -> str:
    tenant = "globex" if "endpoints" in pattern else "acme"
    for name, value in {**NAMES, "<tenant>": tenant}.items():
        pattern = pattern.replace(name, value)
    return pattern


def other_value(field: Field, now: object) -> object:
    if field.kind == "choice":
        return next(each for each in field.choices if each != now)
    if field.kind == "boolean":
        return not now
    if field.kind == "list":
        return ["429"]
    assert isinstance(now, int | float)
    return {"ratio": 0.29}.get(field.unit, now + (1 if (field.maximum or 0) <= 300 else 350))


def resources(policy: dict[str, Any]) -> dict[Way, Any]:
    document = PolicyDocument.model_validate(policy)
    return {
        Way.RUNTIME: runtime(document, NODE, "prod/x").wire(),
        Way.CLUSTERS: [each.wire() for each in clusters(document, NODE)],
        Way.ROUTES: [
            inbound_routes(document, NODE, "prod/x").wire(),
            outbound_routes(document, NODE, "prod/x/outbound").wire(),
        ],
    }


def value_at(policy: Any, path: str) -> Any:
    for part in parse_path(path):
        policy = policy[part]
    return policy


def test_every_field_of_the_policy_has_exactly_one_place() -> None:
    placed = [field for place in PLACES for field in place.fields]

    assert sorted(placed) == sorted(field.path for field in list_fields())


@pytest.mark.parametrize("pattern", [field.path for field in list_fields()])
def test_a_field_changes_what_its_place_says(pattern: str) -> None:
    path = concrete(pattern)
    field, place = field_for(path), find_place(path)
    assert field is not None
    assert place is not None
    assert pattern in place.fields
    base = complete(BASE)
    value = other_value(field, value_at(base, path))
    changed = complete(merge_patch(copy.deepcopy(BASE), at(path, value)))
    assert not check_policy(changed)

    before, after = resources(base), resources(changed)

    moved = {way for way in before if before[way] != after[way]}
    if place.way is Way.NONE:
        assert moved == set()
    else:
        assert place.way in moved


@pytest.mark.parametrize(
    ("path", "note"),
    [
        ("inbound.shedding.level", ""),
        ("outbound.dependencies.payments.retry.budget.ratio", ""),
        ("inbound.rate.per_s", "Envoy takes this by route discovery, within 3 s."),
        (
            'outbound.dependencies["api.stripe.com"].timeouts.connect_ms',
            "Envoy takes this by cluster discovery, within 3 s.",
        ),
        (
            'inbound.endpoints["GET /a.b"].concurrency.max',
            "Envoy does not take this. It bounds concurrency per cluster, not per route.",
        ),
        ("inbound.tenants.named.acme.per_s", "Envoy takes this by route discovery, within 3 s."),
        ("no.such.field", ""),
        ("not a path", ""),
    ],
)
def test_a_note_tells_what_is_not_live(path: str, note: str) -> None:
    assert note_on(path) == note

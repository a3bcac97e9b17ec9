"""The SDK against the policies that the control plane resolves."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.policies.domain.resolve import Layer, resolve
from controlplane.policies.domain.schema import builtin_policy
from tidegate.policy import SAFE_DEFAULTS, BreakerMode, Criticality, Mode, Policy, parse_policy


def delivered(document: dict[str, Any]) -> Policy:
    return parse_policy(resolve([Layer("version", "v1", document)]).policy)


def test_both_sides_have_the_same_built_in_policy() -> None:
    assert parse_policy(builtin_policy()) == SAFE_DEFAULTS
    assert delivered({}) == SAFE_DEFAULTS


def test_a_sparse_document_arrives_complete() -> None:
    read = delivered(
        {
            "inbound": {
                "rate": {"per_s": 300, "mode": "shadow"},
                "tenants": {"default": {"per_s": 50}, "named": {"acme": {"per_s": 220}}},
                "shedding": {"level": 2, "default_criticality": "sheddable"},
                "endpoints": {
                    "POST /orders": {"rate": {"per_s": 30}, "criticality": "critical_plus"},
                    "GET /search": {
                        "concurrency": {"max": 5},
                        "tenants": {"default": {"per_s": 1}},
                        "idempotency": {"required": True},
                    },
                    "GET /cart": {},
                },
                "features": {"recommendations": {"off_at_level": 1}},
            },
            "outbound": {
                "defaults": {"breaker": {"mode": "shadow"}},
                "dependencies": {"payments": {"timeouts": {"attempt_ms": 600}}},
            },
        }
    )

    inbound = read.inbound
    assert inbound.rate.mode is Mode.SHADOW
    assert inbound.tenants.named["acme"].per_s == 220.0
    orders, cart = inbound.endpoints["POST /orders"], inbound.endpoints["GET /cart"]
    assert orders.criticality is Criticality.CRITICAL_PLUS
    assert orders.rate is not None
    assert (cart.criticality, cart.rate) == (Criticality.SHEDDABLE, None)
    assert cart.deadline_ms == inbound.deadline_ms
    assert not inbound.feature_is_on("recommendations")
    payments = read.outbound.dependency("payments")
    assert payments.timeouts.attempt_ms == 600.0
    assert payments.breaker.mode is BreakerMode.SHADOW


@pytest.mark.parametrize(
    "document",
    [
        {"inbound": {"rate": {"per_s": 0, "burst": 1}}},
        {"inbound": {"concurrency": {"max": 1, "queue": {"max": 0, "timeout_ms": 1}}}},
        {"inbound": {"tenants": {"named": {"acme": {"per_s": 0.5, "burst": 1}}}}},
        {"inbound": {"deadline_ms": 600_000}},
        {"outbound": {"defaults": {"retry": {"on": [], "max_attempts": 1}}}},
        {"outbound": {"defaults": {"retry": {"on": ["408", "425", "429", "599"]}}}},
        {"outbound": {"defaults": {"retry": {"budget": {"ratio": 1, "min_per_s": 0}}}}},
        {"outbound": {"defaults": {"breaker": {"open_s": 3600, "half_open_calls": 1}}}},
        {"lifecycle": {"drain": {"not_ready_s": 0, "timeout_s": 1}}},
    ],
    ids=str,
)
def test_values_at_the_edge_of_their_range_are_trusted(document: dict[str, Any]) -> None:
    assert delivered(document) != SAFE_DEFAULTS

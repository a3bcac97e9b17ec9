"""The SDK accepts every policy that the control plane can deliver, and reads the same values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest
from hypothesis import given

from controlplane.policies.domain.checks import check_policy
from controlplane.policies.domain.resolve import Layer, resolve
from controlplane.policies.domain.schema import EXAMPLE, builtin_policy
from tests.policies.domain.documents import documents, flat, patches
from tidegate.policy import parse_policy

RICH: dict[str, Any] = {
    "inbound": {
        "deadline_ms": 2500,
        "concurrency": {"max": 64, "queue": {"max": 16, "timeout_ms": 40}, "mode": "shadow"},
        "rate": {"per_s": 750.5, "burst": 90},
        "tenants": {
            "default": {"per_s": 0.5, "burst": 3},
            "named": {"acme": {"per_s": 220}, "globex@eu:1": {"per_s": 0, "burst": 1}},
            "mode": "shadow",
        },
        "endpoints": {
            "POST /orders": {
                "deadline_ms": 1500,
                "criticality": "critical_plus",
                "rate": {"per_s": 300, "mode": "shadow"},
                "concurrency": {"max": 8, "queue": {"max": 0}},
                "tenants": {"default": {"per_s": 5}, "named": {"acme": {"burst": 9}}},
                "idempotency": {"required": True},
            },
            "GET /products/{id}": {},
        },
        "shedding": {"level": 2, "default_criticality": "sheddable_plus"},
        "features": {"recommendations": {"off_at_level": 1}, "reviews": {"enabled": False}},
    },
    "outbound": {
        "defaults": {"retry": {"on": ["429", "503"], "backoff": {"multiplier": 1.5}}},
        "dependencies": {
            "payments": {
                "timeouts": {"connect_ms": 50, "attempt_ms": 400},
                "retry": {"max_attempts": 1, "on": []},
                "breaker": {"mode": "forced_open"},
            },
            "api.stripe.com": {
                "breaker": {"window": {"kind": "count", "size": 100}, "open_s": 0.5}
            },
        },
    },
    "lifecycle": {"drain": {"not_ready_s": 0, "timeout_s": 12.5}},
}


@pytest.mark.parametrize(
    "document", [{}, EXAMPLE, RICH, builtin_policy()], ids=["nothing", "example", "rich", "all"]
)
def test_the_sdk_reads_what_was_resolved(document: dict[str, Any]) -> None:
    policy = resolve([Layer("version", "v1", document)]).policy

    assert check_policy(policy) == []
    assert_same(policy)


@given(documents(), documents(), patches())
def test_the_sdk_reads_whatever_can_be_resolved(below: Any, version: Any, patch: Any) -> None:
    layers = [
        Layer("fleet_default", "fleet default v1", below),
        Layer("version", "v1", version),
        Layer("override", "override 1", patch),
    ]
    policy = resolve(layers).policy

    # Contradictions keep a policy from being served; the SDK could still read it. Only a limit
    # that nothing completed cannot be read.
    if not any("missing" in problem.message for problem in check_policy(policy)):
        assert_same(policy)


def assert_same(policy: dict[str, Any]) -> None:
    """Compare a policy with what the SDK made of it, over the wire."""
    read = as_document(parse_policy(json.loads(json.dumps(policy))))

    assert flat(read) == flat(comparable(policy))


def as_document(value: object) -> Any:
    """Turn the SDK's values back into JSON, with lists as sorted and tenant modes left out."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return as_document(fields)
    if isinstance(value, Mapping):
        return comparable({key: as_document(item) for key, item in value.items()})
    return sorted(value) if isinstance(value, frozenset) else value


def comparable(value: Any) -> Any:
    """A document without nulls and without the mode that the SDK gives each tenant's rate."""
    if isinstance(value, list):
        return sorted(value)
    if not isinstance(value, dict):
        return value
    kept = {key: comparable(item) for key, item in value.items() if item is not None}
    if isinstance(kept.get("named"), dict):
        for rate in [kept.get("default", {}), *kept["named"].values()]:
            rate.pop("mode", None)
    return kept

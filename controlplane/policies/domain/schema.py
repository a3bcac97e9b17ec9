"""The `tidegate/v1` policy document: one model is the schema, the validation and the help."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import BaseModel

from controlplane.policies.domain.declare import Block, part
from controlplane.policies.domain.inbound import Inbound
from controlplane.policies.domain.outbound import Lifecycle, Outbound

SCHEMA_NAME = "tidegate/v1"

EXAMPLE: dict[str, Any] = {
    "inbound": {
        "deadline_ms": 2000,
        "rate": {"per_s": 500, "burst": 100},
        "tenants": {
            "default": {"per_s": 50, "burst": 20},
            "named": {"acme": {"per_s": 220, "burst": 60}},
        },
        "endpoints": {
            "POST /orders": {
                "criticality": "critical_plus",
                "rate": {"per_s": 300, "burst": 60},
                "idempotency": {"required": True, "ttl_s": 86400},
            }
        },
        "features": {"recommendations": {"off_at_level": 1}},
    },
    "outbound": {
        "dependencies": {
            "payments": {
                "timeouts": {"attempt_ms": 600},
                "retry": {"max_attempts": 2, "budget": {"ratio": 0.1}},
            }
        }
    },
}


class PolicyDocument(Block):
    """How a service protects itself and calls others. Sparse: what is left out comes from below."""

    inbound: Inbound = part(Inbound, "Inbound", "How the service protects itself from its callers.")
    outbound: Outbound = part(Outbound, "Outbound", "How the service calls others.")
    lifecycle: Lifecycle = part(Lifecycle, "Lifecycle", "How an instance comes and goes.")


def defaults_of(block: type[BaseModel]) -> dict[str, Any]:
    """Return what an empty object of this kind means: every default, whole floats as integers."""
    dumped: dict[str, Any] = _whole(block().model_dump())
    return dumped


def builtin_policy() -> dict[str, Any]:
    """Return the complete policy of a service about which nobody has said anything; a fresh copy.

    It limits concurrency, queue and rate, retries within a budget, and opens breakers.
    """
    return copy.deepcopy(_BUILTIN)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a sparse document, with a `unit` for every number."""
    schema = PolicyDocument.model_json_schema()
    _without_null_defaults(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:tidegate:policy:v1",
        **schema,
        "title": SCHEMA_NAME,
        "examples": [copy.deepcopy(EXAMPLE)],
    }


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _without_null_defaults(node: object) -> None:
    """Drop `"default": null`: it means that leaving out adds nothing, not that null is a value."""
    if isinstance(node, dict):
        if node.get("default", 0) is None:
            del node["default"]
        for value in node.values():
            _without_null_defaults(value)
    elif isinstance(node, list):
        for value in node:
            _without_null_defaults(value)


_BUILTIN = defaults_of(PolicyDocument)

"""Policies and nodes for tests of the Envoy adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.delivery.adapters.xds_node import EnvoyNode, ManagedCluster
from controlplane.policies.domain.resolve import Layer, resolve
from controlplane.policies.domain.schema import PolicyDocument

SIDECAR = EnvoyNode()
EDGE = EnvoyNode("gateway", (ManagedCluster("gateway", (("10.0.0.7", 8080), ("gw", 81))),))


def complete(document: Mapping[str, Any]) -> dict[str, Any]:
    """The effective policy of a service that has this version, and nothing else."""
    return resolve([Layer("version", "v1", document)]).policy


def model(document: Mapping[str, Any]) -> PolicyDocument:
    """The same, as the mapping reads it."""
    return PolicyDocument.model_validate(complete(document))


def calling(name: str = "payments", **blocks: Any) -> dict[str, Any]:
    """A version that says how one dependency is called."""
    return {"outbound": {"dependencies": {name: blocks}}}

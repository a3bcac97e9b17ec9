"""What an Envoy says about itself in its bootstrap: where requests go, and hosts of clusters.

Envoy repeats `node.metadata` in every request, so a bootstrap can say there what no policy says:

    node:
      metadata:
        tidegate:
          inbound_cluster: gateway                          # left out: local_service
          clusters: {gateway: ["10.0.0.7:8080", "10.0.0.8:8080"]}   # served by :clusters
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.policies.domain.declare import DEPENDENCIES

LOCAL_SERVICE = "local_service"
MAX_HOSTS = 1000

_HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")


class BadNode(ValueError):
    """The metadata of a node is not what Tidegate reads; `field` is where."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class ManagedCluster:
    """A cluster that is served by :clusters, with its hosts as (name or address, port)."""

    name: str
    hosts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class EnvoyNode:
    """What of a node decides its resources: two equal nodes of a service are sent the same."""

    inbound_cluster: str = LOCAL_SERVICE
    clusters: tuple[ManagedCluster, ...] = ()

    @property
    def calls_a_dependency(self) -> bool:
        """Whether its inbound requests go on to a dependency, as those of an edge proxy do."""
        return self.inbound_cluster != LOCAL_SERVICE


def read_node(metadata: object) -> EnvoyNode:
    """Read `node.metadata`; what others keep there is left alone.

    Raises:
        BadNode: `tidegate` holds an unknown key, a name that no cluster may have, or no hosts.
    """
    ours = metadata.get("tidegate") if isinstance(metadata, Mapping) else None
    if ours is None:
        return EnvoyNode()
    where = "node.metadata.tidegate"
    if not isinstance(ours, Mapping):
        raise BadNode(where, "expected an object with inbound_cluster and clusters, or nothing")
    unknown = sorted(str(key) for key in ours.keys() - {"inbound_cluster", "clusters"})
    if unknown:
        raise BadNode(
            f"{where}.{unknown[0]}", "unknown; here stand inbound_cluster and clusters only"
        )
    return EnvoyNode(
        inbound_cluster=_name(ours.get("inbound_cluster", LOCAL_SERVICE), where),
        clusters=_clusters(ours.get("clusters", {}), f"{where}.clusters"),
    )


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not DEPENDENCIES.allows(value):
        raise BadNode(
            f"{where}.inbound_cluster", f"expected the name of a cluster: {DEPENDENCIES.form}"
        )
    return value


def _clusters(value: object, where: str) -> tuple[ManagedCluster, ...]:
    if not isinstance(value, Mapping) or len(value) > DEPENDENCIES.at_most:
        raise BadNode(
            where, f"expected an object of at most {DEPENDENCIES.at_most} clusters by name"
        )
    found = []
    for name, hosts in sorted(value.items()):
        if not isinstance(name, str) or not DEPENDENCIES.allows(name):
            raise BadNode(where, f"no name of a cluster: expected {DEPENDENCIES.form}")
        found.append(ManagedCluster(name, _hosts(hosts, f"{where}.{name}")))
    if sum(len(cluster.hosts) for cluster in found) > MAX_HOSTS:
        raise BadNode(where, f"holds more than {MAX_HOSTS} hosts; leave larger clusters static")
    return tuple(found)


def _hosts(value: object, where: str) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_HOSTS:
        raise BadNode(where, f'expected a list of 1 to {MAX_HOSTS} hosts, such as "10.0.0.7:8080"')
    hosts = []
    for item in value:
        match = _HOST.fullmatch(item) if isinstance(item, str) else None
        if match is None or not 1 <= int(match[2]) <= 65_535:
            raise BadNode(where, 'expected hosts as "name:port" or "address:port"')
        hosts.append((match[1].strip("[]"), int(match[2])))
    return tuple(hosts)

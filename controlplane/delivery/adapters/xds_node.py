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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from controlplane.policies.domain.declare import DEPENDENCIES

LOCAL_SERVICE = "local_service"
MAX_HOSTS = 1000
MAX_BYTES = 64 * 1024
MAX_KEY_SHOWN = 100
WHERE = "node.metadata.tidegate"

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
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


class _Ours(msgspec.Struct, forbid_unknown_fields=True):
    inbound_cluster: str = LOCAL_SERVICE
    clusters: dict[str, list[str]] = {}


_OURS = msgspec.json.Decoder(_Ours | None)


def read_node(ours: bytes | memoryview) -> EnvoyNode:
    """Read the JSON of `node.metadata.tidegate`; `null` says nothing.

    Its length is checked first: it is read in each request, by the thread that answers everybody.

    Raises:
        BadNode: it is too long or no JSON, holds an unknown key, a name that no cluster may have,
            or no hosts.
    """
    if len(ours) > MAX_BYTES:
        raise BadNode(WHERE, f"holds more than {MAX_BYTES} bytes; leave larger clusters static")
    try:
        found = _OURS.decode(ours)
    except msgspec.ValidationError as problem:
        raise _misshapen(str(problem)) from None
    except ValueError:
        raise BadNode(WHERE, "is no JSON") from None
    if found is None:
        return EnvoyNode()
    return EnvoyNode(
        inbound_cluster=_name(found.inbound_cluster),
        clusters=_clusters(found.clusters, f"{WHERE}.clusters"),
    )


def _misshapen(problem: str) -> BadNode:
    message, _, where = problem.partition(" - at `$")
    unknown = _UNKNOWN.fullmatch(message)
    if unknown is not None:
        return BadNode(
            f"{WHERE}.{unknown[1][:MAX_KEY_SHOWN]}",
            "unknown; here stand inbound_cluster and clusters only",
        )
    return BadNode(WHERE + where.rstrip("`"), message)


def _name(value: str) -> str:
    if not DEPENDENCIES.allows(value):
        raise BadNode(
            f"{WHERE}.inbound_cluster", f"expected the name of a cluster: {DEPENDENCIES.form}"
        )
    return value


def _clusters(value: Mapping[str, list[str]], where: str) -> tuple[ManagedCluster, ...]:
    if len(value) > DEPENDENCIES.at_most:
        raise BadNode(
            where, f"expected an object of at most {DEPENDENCIES.at_most} clusters by name"
        )
    found = []
    for name, hosts in sorted(value.items()):
        if not DEPENDENCIES.allows(name):
            raise BadNode(where, f"no name of a cluster: expected {DEPENDENCIES.form}")
        found.append(ManagedCluster(name, _hosts(hosts, f"{where}.{name}")))
    if sum(len(cluster.hosts) for cluster in found) > MAX_HOSTS:
        raise BadNode(where, f"holds more than {MAX_HOSTS} hosts; leave larger clusters static")
    return tuple(found)


def _hosts(value: Sequence[str], where: str) -> tuple[tuple[str, int], ...]:
    if not 1 <= len(value) <= MAX_HOSTS:
        raise BadNode(where, f'expected a list of 1 to {MAX_HOSTS} hosts, such as "10.0.0.7:8080"')
    hosts = []
    for item in value:
        match = _HOST.fullmatch(item)
        if match is None or not 1 <= int(match[2]) <= 65_535:
            raise BadNode(where, 'expected hosts as "name:port" or "address:port"')
        hosts.append((match[1].strip("[]"), int(match[2])))
    return tuple(hosts)

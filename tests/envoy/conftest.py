"""A real Envoy for the tests of this directory, with a backend and a delivery plane of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controlplane.delivery.adapters.xds_clusters import clusters
from controlplane.delivery.adapters.xds_node import EnvoyNode, ManagedCluster
from controlplane.delivery.adapters.xds_routes import inbound_routes, outbound_routes
from controlplane.kernel.jsondoc import merge_patch
from tests.delivery.envoy_policies import model
from tests.envoy.backend import Backend, Server
from tests.envoy.parts import OFTEN, ControlPlane, Envoy, envoy_path, running_envoy
from tests.ports import find_free_port
from tests.waiting import wait_until

# Nothing in the way: each test adds what it is about.
CALM: dict[str, Any] = {
    "inbound": {
        "deadline_ms": 10_000,
        "rate": {"per_s": 100_000, "burst": 100_000},
        "concurrency": {"max": 1000, "queue": {"max": 1000}},
    },
    "outbound": {
        "dependencies": {
            "gateway": {
                "timeouts": {"attempt_ms": 10_000},
                "retry": {"max_attempts": 1},
                "breaker": {"mode": "disabled"},
            }
        }
    },
}


RUNTIME, CLUSTERS = "runtime prod/edge", "clusters"
ROUTES, OUTBOUND = "routes prod/edge", "routes prod/edge/outbound"
SUBSCRIPTIONS = (RUNTIME, CLUSTERS, ROUTES, OUTBOUND)
NODE_SHAPE = EnvoyNode("gateway", (ManagedCluster("gateway", (("127.0.0.1", 1),)),))


def slow_part(document: dict[str, Any]) -> object:
    """What of a policy goes by routes and clusters."""
    policy = model(document)
    return (
        clusters(policy, NODE_SHAPE),
        inbound_routes(policy, NODE_SHAPE, "prod/edge"),
        outbound_routes(policy, NODE_SHAPE, "prod/edge/outbound"),
    )


@dataclass(slots=True)
class Edge:
    """A real Envoy with what stands behind it and what tells it the policy."""

    envoy: Envoy
    backend: Backend
    plane: ControlPlane
    backend_port: int
    has_calm_routes: bool = False

    @property
    def url(self) -> str:
        return self.envoy.url

    def publish(self, patch: dict[str, Any]) -> None:
        """Serve CALM with a patch."""
        document = merge_patch(CALM, patch)
        if slow_part(document) != slow_part(CALM):
            self.has_calm_routes = False
        self.plane.publish(document)

    def calm(self) -> None:
        """Serve CALM; `wait_calm` waits until Envoy has it."""
        self.backend.reset()
        self.plane.discovery.spoil = None
        self.publish({})

    def wait_calm(self) -> None:
        """Wait until Envoy has what of CALM may be different there."""
        self.wait_for(*((RUNTIME,) if self.has_calm_routes else SUBSCRIPTIONS))
        self.has_calm_routes = True

    def wait_for(self, *subscriptions: str) -> None:
        """Wait until Envoy asks with the version in force."""
        etag, versions = self.plane.etag, self.plane.discovery.versions
        wait_until(
            lambda: all(
                (versions.get(each) or "").startswith(f"{etag}/") for each in subscriptions
            ),
            what=f"Envoy to have {subscriptions} of {etag}: {versions}",
        )


@pytest.fixture(scope="session")
def envoy_binary() -> str:
    return envoy_path()


@pytest.fixture(scope="package")
def shared_edge(envoy_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running_edge(envoy_binary, tmp_path_factory.mktemp("envoy")) as edge:
        yield edge


@contextmanager
def running_edge(binary: str, directory: Path, *, refresh: str | None = OFTEN) -> Iterator[Edge]:
    backend, plane = Backend(), ControlPlane()
    behind = Server(backend, find_free_port())
    behind.start()
    plane.start()
    plane.publish(CALM)
    try:
        with running_envoy(
            binary,
            directory,
            upstream_port=behind.port,
            tidegate_port=plane.port,
            refresh=refresh,
        ) as envoy:
            yield Edge(envoy, backend, plane, behind.port)
    finally:
        plane.stop()
        behind.stop()


@pytest.fixture
def edge(shared_edge: Edge) -> Iterator[Edge]:
    """An Envoy with a policy that is in nobody's way, in force."""
    shared_edge.wait_calm()
    yield shared_edge
    shared_edge.calm()

"""The eight services of the demo: what they are, who calls whom, and where instances listen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = "prod"
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class FleetEndpoint:
    """One `METHOD /route` of a service, and how much its requests matter unless they say."""

    method: str
    route: str
    criticality: str = "critical"


@dataclass(frozen=True, slots=True)
class FleetService:
    """One service: how many instances it runs, whose it is, what it answers, whom it calls."""

    name: str
    instances: int
    team: str
    tier: int
    description: str
    endpoints: tuple[FleetEndpoint, ...]
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacedInstance:
    """One process to run: `gateway-1` of `gateway`, on a port."""

    service: str
    name: str
    port: int


FLEET: tuple[FleetService, ...] = (
    FleetService(
        "gateway", 3, "edge", 1,
        "The front door: authenticates, limits tenants, and fans out to the services behind it.",
        (
            FleetEndpoint("GET", "/", "sheddable_plus"),
            FleetEndpoint("POST", "/orders", "critical_plus"),
            FleetEndpoint("GET", "/search", "sheddable_plus"),
            FleetEndpoint("GET", "/products/{id}"),
        ),
        ("checkout", "search", "catalog"),
    ),
    FleetService(
        "checkout", 3, "commerce", 1,
        "Turns a basket into an order: reserves stock, then charges.",
        (
            FleetEndpoint("POST", "/orders", "critical_plus"),
            FleetEndpoint("GET", "/cart", "sheddable_plus"),
        ),
        ("payments", "inventory"),
    ),
    FleetService(
        "payments", 3, "payments", 1,
        "Charges a card: scores the charge for fraud, then writes it to the ledger.",
        (FleetEndpoint("POST", "/charge", "critical_plus"),),
        ("fraud", "ledger"),
    ),
    FleetService(
        "inventory", 2, "commerce", 2, "What is in stock, by article.",
        (FleetEndpoint("GET", "/stock/{sku}"),),
    ),
    FleetService(
        "fraud", 2, "payments", 2, "Scores a charge by a model somebody else trained.",
        (FleetEndpoint("POST", "/score"),),
    ),
    FleetService(
        "ledger", 2, "payments", 1, "The book of record: every entry is written once.",
        (FleetEndpoint("POST", "/entries", "critical_plus"),),
    ),
    FleetService(
        "search", 2, "discovery", 3, "Full-text search over the catalogue.",
        (FleetEndpoint("GET", "/search", "sheddable_plus"),),
        ("catalog",),
    ),
    FleetService(
        "catalog", 2, "discovery", 2, "Names, prices and pictures of articles.",
        (FleetEndpoint("GET", "/products/{id}"),),
    ),
)  # fmt: skip


def instance_count() -> int:
    """Return how many processes the fleet needs, and so how many ports."""
    return sum(service.instances for service in FLEET)


def place(ports: Sequence[int]) -> list[PlacedInstance]:
    """Return every instance of the fleet with its port, in the order of FLEET.

    Raises:
        ValueError: there are fewer ports than instances.
    """
    names = [
        (service.name, f"{service.name}-{number}")
        for service in FLEET
        for number in range(1, service.instances + 1)
    ]
    if len(ports) < len(names):
        raise ValueError(f"{len(names)} instances need as many ports; got {len(ports)}")
    return [
        PlacedInstance(service, name, port)
        for (service, name), port in zip(names, ports, strict=False)
    ]


def addresses_of(placed: Sequence[PlacedInstance]) -> dict[str, tuple[str, ...]]:
    """Return the `host:port` of every instance, by service."""
    addresses: dict[str, tuple[str, ...]] = {}
    for one in placed:
        addresses[one.service] = (*addresses.get(one.service, ()), f"{HOST}:{one.port}")
    return addresses


def write_files(
    state_dir: Path, placed: Sequence[PlacedInstance], edge_port: int | None = None
) -> None:
    """Write where instances listen: `fleet.json` for callers, a target file for Prometheus.

    Args:
        edge_port: of the Envoy in front of gateway; None when there is none.
    """
    edge = {} if edge_port is None else {"edge": (f"{HOST}:{edge_port}",)}
    _write_json(state_dir / "fleet.json", {**addresses_of(placed), **edge})
    _write_json(state_dir / "targets" / "fleet.json", scrape_targets(placed))


def scrape_targets(placed: Sequence[PlacedInstance]) -> list[dict[str, object]]:
    """Return Prometheus's file_sd form of the fleet: one group per instance, with its labels."""
    return [
        {
            "targets": [f"{HOST}:{one.port}"],
            "labels": {"environment": ENVIRONMENT, "service": one.service, "instance": one.name},
        }
        for one in placed
    ]


def read_addresses(state_dir: Path) -> dict[str, tuple[str, ...]]:
    """Return the `host:port` of every instance, by service."""
    document = json.loads((state_dir / "fleet.json").read_text())
    return {service: tuple(addresses) for service, addresses in document.items()}


def _write_json(path: Path, document: object) -> None:
    scratch = path.with_suffix(".writing")
    scratch.write_text(json.dumps(document, indent=1))
    scratch.replace(path)

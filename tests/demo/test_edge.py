"""The Envoy in front of gateway: its files, its place in the demo, and the demo without it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from controlplane.delivery.adapters.xds_node import read_node
from demo import edge
from demo.fleet import FLEET, place, read_addresses, write_files
from demo.policies import EDGE_POLICY
from demo.traffic import front_door

PORTS = edge.EdgePorts(8003, 8004)
GATEWAYS = ("127.0.0.1:8010", "127.0.0.1:8011")


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    for name in ("tokens", "targets"):
        (tmp_path / name).mkdir()
    (tmp_path / "tokens/edge").write_text("tgs_" + "e" * 43)
    return tmp_path


def test_its_configuration_names_the_instances_behind_it(state_dir: Path) -> None:
    config = edge.write_files(state_dir, PORTS, gateway=GATEWAYS, tidegate_port=8000)

    node = yaml.safe_load(config.read_text())["node"]
    shape = read_node(json.dumps(node["metadata"]["tidegate"]).encode())
    assert (node["id"], node["cluster"]) == ("edge-1", "edge")
    assert shape.inbound_cluster == "gateway"
    (cluster,) = shape.clusters
    assert cluster.hosts == (("127.0.0.1", 8010), ("127.0.0.1", 8011))


def test_its_token_is_readable_by_its_owner_only(state_dir: Path) -> None:
    edge.write_files(state_dir, PORTS, gateway=GATEWAYS, tidegate_port=8000)

    token_file = state_dir / "envoy/token.yaml"
    assert token_file.stat().st_mode & 0o777 == 0o600
    (secret,) = yaml.safe_load(token_file.read_text())["resources"]
    assert secret["generic_secret"]["secret"]["inline_string"] == "tgs_" + "e" * 43
    assert "tgs_" not in (state_dir / "envoy/envoy.yaml").read_text()


def test_prometheus_finds_its_admin_page(state_dir: Path) -> None:
    edge.write_files(state_dir, PORTS, gateway=GATEWAYS, tidegate_port=8000)

    (target,) = json.loads((state_dir / "targets/envoy/edge.json").read_text())
    assert target == {
        "targets": ["127.0.0.1:8004"],
        "labels": {"environment": "prod", "service": "edge", "instance": "edge-1"},
    }


def test_users_knock_at_the_edge_only_where_there_is_one(state_dir: Path) -> None:
    placed = place(range(9000, 9100))

    write_files(state_dir, placed)
    assert front_door(read_addresses(state_dir)) == read_addresses(state_dir)["gateway"]
    write_files(state_dir, placed, 8003)
    assert front_door(read_addresses(state_dir)) == ("127.0.0.1:8003",)


def test_its_policy_names_what_it_has() -> None:
    endpoints = {f"{each.method} {each.route}" for each in edge.EDGE.endpoints}
    gateway = next(shape for shape in FLEET if shape.name == "gateway")

    assert EDGE_POLICY["inbound"]["endpoints"].keys() <= endpoints
    assert EDGE_POLICY["outbound"]["dependencies"].keys() == set(edge.EDGE.calls) == {"gateway"}
    assert endpoints == {f"{each.method} {each.route}" for each in gateway.endpoints}


@pytest.mark.parametrize("reason", ["asked", "cannot run"])
def test_the_demo_does_without_an_envoy_that_does_not_run(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot_run(*arguments: object, **options: object) -> None:
        raise OSError("Exec format error")

    if reason == "asked":
        monkeypatch.setenv("ENVOY", "0")
    else:
        monkeypatch.setattr(subprocess, "run", cannot_run)

    assert edge.list_services() == FLEET
    with pytest.raises(edge.NoEnvoy, match=r"ENVOY=0 leaves it out|Exec format error"):
        edge.find_envoy()


def test_an_edge_that_is_not_there_is_not_live() -> None:
    assert edge.is_live(edge.EdgePorts(1, 1)) is False

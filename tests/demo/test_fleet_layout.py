"""The fleet: a sound call graph, ports for every instance, and targets that Prometheus knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo.addresses import RoundRobin
from demo.fleet import (
    FLEET,
    instance_count,
    place,
    read_addresses,
    scrape_targets,
    write_files,
)
from demo.policies import POLICIES
from demo.services import ROUTES

SERVICES = {service.name: service for service in FLEET}


def test_every_service_runs_two_instances_or_more() -> None:
    assert len(FLEET) == 8
    assert all(service.instances >= 2 for service in FLEET)


def test_only_checkout_calls_payments() -> None:
    callers = [service.name for service in FLEET if "payments" in service.calls]

    assert callers == ["checkout"]


def test_every_call_goes_to_a_service_further_down() -> None:
    order = list(SERVICES)

    for service in FLEET:
        for dependency in service.calls:
            assert dependency in SERVICES
    assert order[0] == "gateway"
    assert not any("gateway" in service.calls for service in FLEET)


def test_every_service_has_handlers_and_a_policy() -> None:
    assert ROUTES.keys() == SERVICES.keys() == POLICIES.keys()


def test_policies_name_only_dependencies_and_endpoints_that_exist() -> None:
    for name, policy in POLICIES.items():
        endpoints = {f"{one.method} {one.route}" for one in SERVICES[name].endpoints}
        named = policy.get("outbound", {}).get("dependencies", {})
        assert set(named) <= set(SERVICES[name].calls)
        assert set(policy.get("inbound", {}).get("endpoints", {})) <= endpoints


def test_each_instance_gets_a_port_and_a_name_that_stays() -> None:
    placed = place(range(9000, 9000 + instance_count()))

    assert len({one.port for one in placed}) == len({one.name for one in placed})
    assert placed[0].name == "gateway-1"
    assert placed[0].port == 9000


def test_too_few_ports_are_refused() -> None:
    with pytest.raises(ValueError, match="instances need as many ports; got 1"):
        place([9000])


def test_targets_carry_the_labels_that_queries_group_by() -> None:
    target = scrape_targets(place(range(9000, 9100)))[0]

    assert target == {
        "targets": ["127.0.0.1:9000"],
        "labels": {"environment": "prod", "service": "gateway", "instance": "gateway-1"},
    }


def test_callers_read_back_where_instances_listen(tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    placed = place(range(9000, 9100))

    write_files(tmp_path, placed)

    assert read_addresses(tmp_path)["gateway"] == (
        "127.0.0.1:9000",
        "127.0.0.1:9001",
        "127.0.0.1:9002",
    )
    assert len(json.loads((tmp_path / "targets/fleet.json").read_text())) == len(placed)


def test_attempts_go_round_the_instances() -> None:
    turn = RoundRobin(["a:1", "b:1"])

    assert [turn.take() for _ in range(5)] == ["a:1", "b:1", "a:1", "b:1", "a:1"]


def test_a_dependency_without_instances_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one instance address"):
        RoundRobin([])

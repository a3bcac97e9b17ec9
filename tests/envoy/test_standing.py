"""What a real Envoy does when it is refused, refuses, or is left alone; and what we know of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings

from controlplane.delivery.adapters.xds_clusters import clusters
from controlplane.delivery.adapters.xds_node import EnvoyNode, ManagedCluster
from controlplane.delivery.adapters.xds_routes import inbound_routes, outbound_routes
from controlplane.delivery.adapters.xds_runtime import runtime
from controlplane.kernel.jsondoc import merge_patch
from controlplane.policies.domain.checks import check_policy
from controlplane.policies.domain.schema import PolicyDocument
from tests.delivery.envoy_policies import complete
from tests.envoy.backend import burst
from tests.envoy.conftest import CALM, RUNTIME, SUBSCRIPTIONS, Edge
from tests.envoy.parts import TOKEN, ControlPlane, is_live, running_envoy, write_token
from tests.policies.domain.documents import documents
from tests.waiting import HUNG_S, wait_until

pytestmark = pytest.mark.scenario


def spoiled(body: bytes) -> bytes:
    """Route configurations with a field that Envoy does not have; the other kinds as they are."""
    document = json.loads(body)
    for resource in document["resources"]:
        if "virtual_hosts" in resource:
            resource["virtual_hosts"][0]["no_such_field"] = 1
    return json.dumps(document).encode()


def test_a_resource_that_envoy_refuses_is_a_rejection_of_that_node(edge: Edge) -> None:
    before = edge.plane.etag
    edge.wait_for(*SUBSCRIPTIONS)
    edge.plane.discovery.spoil = spoiled

    edge.publish({"inbound": {"deadline_ms": 150, "shedding": {"level": 3}}})

    refused = edge.plane.etag
    wait_until(
        lambda: [outcome for outcome, _, _ in edge.plane.standing()][-1:] == ["rejected"],
        what="the rejection to be known",
    )
    (_, kept, _), (_, rejected, reason) = edge.plane.standing()[-2:]
    assert (kept, rejected) == (before, refused)
    assert reason.startswith("Envoy does not take the routes")
    wait_until(
        lambda: edge.envoy.stat("http.inbound.rds.prod/edge.update_rejected") >= 3,
        what="Envoy to have refused the routes of the inbound listener too",
    )
    edge.backend.takes_s = 0.3
    assert burst(edge.url, 1, headers={"X-Criticality": "critical_plus"}) == [200]


def test_envoy_goes_on_with_the_last_policy_without_us(
    envoy_binary: str, edge: Edge, tmp_path: Path
) -> None:
    plane = ControlPlane()
    plane.start()
    plane.publish({**CALM, "inbound": {"rate": {"per_s": 0.01, "burst": 5}}})
    with running_envoy(
        envoy_binary, tmp_path, upstream_port=edge.backend_port, tidegate_port=plane.port
    ) as envoy:
        try:
            wait_until(
                lambda: ("applied", plane.etag, "") in plane.standing(),
                what="Envoy to have the policy",
            )
        finally:
            plane.stop()
        failures = envoy.stat("runtime.update_failure")
        wait_until(
            lambda: envoy.stat("runtime.update_failure") >= failures + 2,
            what="polls to fail",
        )

        assert burst(envoy.url, 8).count(200) == 5
        wait_until(lambda: is_live(envoy), what="Envoy to say that it lives")


def test_a_token_is_replaced_without_a_restart_and_a_revoked_one_changes_nothing(
    edge: Edge,
) -> None:
    other = "tgs_" + "f" * 43
    edge.plane.use_tokens(other)
    edge.plane.discovery.answers.clear()
    wait_until(
        lambda: {status for _, status in edge.plane.discovery.answers} == {401},
        what="the old token to be refused",
    )
    assert burst(edge.url, 1) == [200]

    write_token(edge.envoy.token_file, other)

    edge.publish({"inbound": {"shedding": {"level": 3}}})
    wait_until(lambda: burst(edge.url, 1) == [503], what="a change to arrive again")
    edge.plane.use_tokens(other, TOKEN)
    write_token(edge.envoy.token_file, TOKEN)


def test_a_node_says_which_envoy_it_is(edge: Edge) -> None:
    edge.publish({"inbound": {"shedding": {"level": 1}}})
    edge.wait_for(RUNTIME)

    assert edge.plane.notes()[-1].sdk.startswith("envoy/1.")


NODE = EnvoyNode("gateway", (ManagedCluster("gateway", (("127.0.0.1", 1),)),))
LONG = "GET /" + "/".join(f"segment-{number}/{{id{number}}}" for number in range(11))


@given(document=documents())
@settings(
    max_examples=8,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_envoy_itself_finds_nothing_wrong_with_any_policy(
    envoy_binary: str, tmp_path: Path, document: dict[str, Any]
) -> None:
    policy = complete(merge_patch(document, {"inbound": {"endpoints": {LONG: {}}}}))
    assume(not check_policy(policy))
    config = tmp_path / "static.yaml"
    config.write_text(yaml.safe_dump(static_config(PolicyDocument.model_validate(policy))))

    done = subprocess.run(
        [envoy_binary, "--mode", "validate", "-c", str(config), "--log-level", "error"],
        capture_output=True, text=True, check=False, timeout=HUNG_S,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "OK" in done.stdout + done.stderr


def static_config(document: PolicyDocument) -> dict[str, Any]:
    """Every resource in a bootstrap: there Envoy refuses unknown fields and enum values."""
    routes = [
        inbound_routes(document, NODE, "prod/edge"),
        outbound_routes(document, NODE, "prod/edge/outbound"),
    ]
    return {
        "layered_runtime": {
            "layers": [
                {"name": "tidegate", "static_layer": runtime(document, NODE, "prod/edge").layer}
            ]
        },
        "static_resources": {
            "clusters": [without_type(each.wire()) for each in clusters(document, NODE)],
            "listeners": [
                listener(without_type(each.wire()), 20_000 + number)
                for number, each in enumerate(routes)
            ],
        },
    }


def without_type(resource: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != "@type"}


def listener(route_config: dict[str, Any], port: int) -> dict[str, Any]:
    manager = (
        "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager"
    )
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    return {
        "name": route_config["name"],
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {
                            "@type": manager,
                            "stat_prefix": "inbound",
                            "route_config": {**route_config, "validate_clusters": False},
                            "http_filters": [
                                {"name": "envoy.filters.http.router", "typed_config": router}
                            ],
                        },
                    }
                ]
            }
        ],
    }

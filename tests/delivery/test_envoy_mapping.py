"""What Envoy is sent for a policy: each number in its unit, each resource within its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from pydantic import ValidationError

from controlplane.delivery.adapters.xds_clusters import clusters
from controlplane.delivery.adapters.xds_node import EnvoyNode
from controlplane.delivery.adapters.xds_route_schema import TokenBucket
from controlplane.delivery.adapters.xds_routes import inbound_routes, outbound_routes
from controlplane.delivery.adapters.xds_runtime import runtime
from controlplane.delivery.adapters.xds_schema import Runtime
from controlplane.policies.domain.checks import check_policy
from controlplane.policies.domain.schema import EXAMPLE, PolicyDocument
from tests.delivery.envoy_policies import EDGE, SIDECAR, calling, complete, model
from tests.policies.domain.documents import at, documents

GOLDEN = Path(__file__).parent / "golden/envoy_example.json"


def layer(document: dict[str, Any], node: EnvoyNode = SIDECAR) -> dict[str, Any]:
    found: dict[str, Any] = runtime(model(document), node, "prod/checkout").wire()["layer"]
    return found


@pytest.mark.parametrize(
    ("path", "value", "key", "sent"),
    [
        ("inbound.shedding.level", 0, "tidegate.shed.sheddable", 0),
        ("inbound.shedding.level", 1, "tidegate.shed.sheddable", 100),
        ("inbound.shedding.level", 1, "tidegate.shed.sheddable_plus", 0),
        ("inbound.shedding.level", 2, "tidegate.shed.sheddable_plus", 100),
        ("inbound.shedding.level", 2, "tidegate.shed.critical", 0),
        ("inbound.shedding.level", 3, "tidegate.shed.critical", 100),
        ("inbound.shedding.level", 3, "tidegate.shed.critical_plus", 0),
        ("inbound.shedding.level", 2, "fault.http.abort.abort_percent", 0),
        ("inbound.shedding.level", 3, "fault.http.abort.abort_percent", 100),
        ("inbound.rate.mode", "enforce", "local_ratelimit.enforced", 100),
        ("inbound.rate.mode", "shadow", "local_ratelimit.enforced", 0),
        ("inbound.rate.mode", "shadow", "local_ratelimit.enabled", 100),
        ("inbound.concurrency.max", 7, "circuit_breakers.local_service.default.max_requests", 7),
        ("inbound.concurrency.max", 7, "circuit_breakers.local_service.default.max_connections", 7),
        (
            "inbound.concurrency.queue.max", 9,
            "circuit_breakers.local_service.default.max_pending_requests", 9,
        ),
        (
            "inbound.concurrency.queue.max", 0,
            "circuit_breakers.local_service.default.max_pending_requests", 1,
        ),
        (
            "inbound.concurrency.mode", "shadow",
            "circuit_breakers.local_service.default.max_requests", 4_294_967_295,
        ),
        (
            "outbound.dependencies.payments.retry.budget.ratio", 0.07,
            "circuit_breakers.payments.default.retry_budget.budget_percent", 7.0,
        ),
        (
            "outbound.dependencies.payments.retry.budget.min_per_s", 2.5,
            "circuit_breakers.payments.default.retry_budget.min_retry_concurrency", 3,
        ),
        (
            'outbound.dependencies["api.stripe.com"].breaker.mode', "forced_open",
            "upstream.maintenance_mode.api.stripe.com", 100,
        ),
        (
            "outbound.dependencies.payments.breaker.mode", "auto",
            "upstream.maintenance_mode.payments", 0,
        ),
        (
            "outbound.dependencies.payments.breaker.mode", "auto",
            "admission_control.payments.enabled", True,
        ),
        (
            "outbound.dependencies.payments.breaker.mode", "shadow",
            "admission_control.payments.enabled", False,
        ),
        (
            "outbound.dependencies.payments.breaker.failure_rate", 0.3,
            "admission_control.payments.sr_threshold", 70.0,
        ),
        (
            "outbound.dependencies.payments.breaker.failure_rate", 1,
            "admission_control.payments.sr_threshold", 1.0,
        ),
        (
            "outbound.dependencies.payments.breaker.min_calls", 61,
            "admission_control.payments.rps_threshold", 3,
        ),
        (
            "outbound.dependencies.payments.breaker.window.kind", "count",
            "admission_control.payments.rps_threshold", 0,
        ),
    ],
)  # fmt: skip
def test_a_field_becomes_a_runtime_key(path: str, value: object, key: str, sent: object) -> None:
    assert layer(at(path, value))[key] == sent


def test_the_inbound_cluster_of_an_edge_is_bounded_and_called_as_its_dependency() -> None:
    document = calling("gateway", retry={"budget": {"ratio": 0.2}})

    found = layer({**document, "inbound": {"concurrency": {"max": 12}}}, EDGE)

    assert found["circuit_breakers.gateway.default.max_requests"] == 12
    assert found["circuit_breakers.gateway.default.retry_budget.budget_percent"] == 20
    assert not any("local_service" in key for key in found)


@pytest.mark.parametrize(
    ("open_s", "min_calls", "judged_from"),
    [(60, 20, 20), (30, 20, 20), (15, 20, 10), (10, 20, 7), (1, 20, 1), (3, 10, 1), (0.1, 1, 1)],
)
def test_the_calls_from_which_a_host_is_judged_are_those_of_one_interval(
    open_s: float, min_calls: int, judged_from: int
) -> None:
    breaker = {"min_calls": min_calls, "open_s": open_s, "window": {"kind": "time", "size": 30}}

    (found,) = clusters(model(calling("gateway", breaker=breaker)), EDGE)

    assert found.wire()["outlier_detection"]["failure_percentage_request_volume"] == judged_from


def test_what_decides_an_ejection_goes_by_runtime_as_well_as_by_cluster() -> None:
    (found,) = clusters(model({}), EDGE)
    by_cluster = found.wire()["outlier_detection"]
    by_runtime = {
        key.removeprefix("outlier_detection.").removesuffix("_ms")
        for key in layer({}, EDGE)
        if key.startswith("outlier_detection.")
    }

    assert by_runtime == set(by_cluster)
    assert layer({})["outlier_detection.max_ejection_percent"] == 100
    assert layer({})["outlier_detection.enforcing_success_rate"] == 0


def test_outlier_detection_goes_by_runtime_only_while_every_breaker_is_the_same() -> None:
    same = calling(breaker={"slow_call_ms": 50})
    other = calling(breaker={"failure_rate": 0.3})

    assert layer(same)["outlier_detection.failure_percentage_threshold"] == 50
    assert not any(key.startswith("outlier_detection") for key in layer(other))


def test_a_time_window_ejects_by_percentage_at_the_end_of_each_interval() -> None:
    breaker = {
        "failure_rate": 0.35, "min_calls": 9, "open_s": 4, "window": {"kind": "time", "size": 20},
    }  # fmt: skip

    (found,) = clusters(model(calling("gateway", breaker=breaker)), EDGE)
    outlier = found.wire()["outlier_detection"]

    assert outlier == {
        "interval": "4s", "base_ejection_time": "4s", "max_ejection_time": "4s",
        "max_ejection_percent": 100, "consecutive_5xx": 9, "enforcing_consecutive_5xx": 0,
        "enforcing_success_rate": 0, "enforcing_failure_percentage": 100,
        "failure_percentage_threshold": 35, "failure_percentage_request_volume": 2,
        "failure_percentage_minimum_hosts": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "enforced"), [("auto", 100), ("shadow", 0), ("disabled", 0), ("forced_open", 0)]
)
def test_a_count_window_ejects_after_failures_in_a_row_in_auto_only(
    mode: str, enforced: int
) -> None:
    breaker = {
        "mode": mode, "failure_rate": 0.5, "min_calls": 3, "window": {"kind": "count", "size": 15},
    }  # fmt: skip

    (found,) = clusters(model(calling("gateway", breaker=breaker)), EDGE)
    outlier = found.wire()["outlier_detection"]

    assert (outlier["consecutive_5xx"], outlier["enforcing_consecutive_5xx"]) == (8, enforced)
    assert outlier["enforcing_failure_percentage"] == 0


def test_a_cluster_has_the_hosts_that_the_node_names_and_the_limits_of_the_policy() -> None:
    (found,) = clusters(model({"inbound": {"concurrency": {"max": 12}}}), EDGE)
    sent = found.wire()

    hosts = [
        host["endpoint"]["address"]["socket_address"]
        for host in sent["load_assignment"]["endpoints"][0]["lb_endpoints"]
    ]
    assert hosts == [
        {"address": "10.0.0.7", "port_value": 8080},
        {"address": "gw", "port_value": 81},
    ]
    assert sent["connect_timeout"] == "0.25s"
    assert sent["circuit_breakers"]["thresholds"][0]["max_requests"] == 12
    assert clusters(model({}), SIDECAR) == []


def test_the_resources_of_the_example_are_the_golden_ones() -> None:
    """To renew: python -m tests.delivery.test_envoy_mapping, and read the difference."""
    assert json.loads(GOLDEN.read_text()) == golden()


def golden() -> dict[str, Any]:
    document = model(EXAMPLE)
    return {
        "runtime": runtime(document, EDGE, "prod/edge").wire(),
        "clusters": [each.wire() for each in clusters(document, EDGE)],
        "routes": [
            inbound_routes(document, EDGE, "prod/edge").wire(),
            outbound_routes(document, EDGE, "prod/edge/outbound").wire(),
        ],
    }


@given(documents())
@settings(max_examples=200)
def test_every_valid_policy_has_valid_resources(document: dict[str, Any]) -> None:
    policy = complete(document)
    assume(not check_policy(policy))
    parsed = PolicyDocument.model_validate(policy)

    for node in (SIDECAR, EDGE):
        for resource in (
            runtime(parsed, node, "prod/x"),
            *clusters(parsed, node),
            inbound_routes(parsed, node, "prod/x"),
            outbound_routes(parsed, node, "prod/x/outbound"),
        ):
            again = resource.wire()
            assert again.pop("@type") == resource.type_url
            json.dumps(again, allow_nan=False)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"tidegate.shed.sheddable": 101}, "expected a number from 0 to 100"),
        ({"tidegate.shed.unheard_of": 1}, "no runtime key that Tidegate sends"),
        ({"admission_control.x.enabled": 1}, "expected true or false"),
        ({"local_ratelimit.enabled": True}, "expected a number from 0 to 100"),
        ({"circuit_breakers.x.default.max_requests": 0}, "expected a number from 1 to"),
    ],
)
def test_a_runtime_key_that_makes_no_sense_is_never_sent(
    entry: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        Runtime(name="prod/x", layer=entry)


def test_unknown_fields_and_too_quick_fills_are_never_sent() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Runtime.model_validate({"name": "prod/x", "layer": {}, "layers": {}})
    with pytest.raises(ValidationError, match=r"under 0\.05 s"):
        TokenBucket(max_tokens=1, tokens_per_fill=1, fill_interval="0.049s")


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")

"""What Envoy is sent for a policy: each number in its unit, each resource within its schema."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.delivery.adapters.xds_clusters import clusters
from controlplane.delivery.adapters.xds_node import EnvoyNode, ManagedCluster
from controlplane.delivery.adapters.xds_route_schema import TokenBucket
from controlplane.delivery.adapters.xds_routes import inbound_routes, outbound_routes
from controlplane.delivery.adapters.xds_runtime import runtime
from controlplane.delivery.adapters.xds_schema import Runtime
from controlplane.delivery.adapters.xds_units import bucket_of, retries_at_once, seconds
from controlplane.policies.domain.checks import check_policy
from controlplane.policies.domain.inbound import Rate
from controlplane.policies.domain.schema import EXAMPLE, PolicyDocument
from tests.delivery.envoy_policies import calling, complete, model
from tests.policies.domain.documents import at, documents

GOLDEN = Path(__file__).parent / "golden/envoy_example.json"
SIDECAR = EnvoyNode()
EDGE = EnvoyNode("gateway", (ManagedCluster("gateway", (("10.0.0.7", 8080), ("gw", 81))),))


def layer(document: dict[str, Any], node: EnvoyNode = SIDECAR) -> dict[str, Any]:
    found: dict[str, Any] = runtime(model(document), node, "prod/checkout").wire()["layer"]
    return found


def service_routes(document: dict[str, Any], node: EnvoyNode = SIDECAR) -> dict[str, Any]:
    (host,) = inbound_routes(model(document), node, "prod/checkout").wire()["virtual_hosts"]
    found: dict[str, Any] = host
    return found


def route(document: dict[str, Any], name: str, node: EnvoyNode = SIDECAR) -> dict[str, Any]:
    routes = service_routes(document, node)["routes"]
    found: dict[str, Any] = next(each for each in routes if each["name"] == name)
    return found


def call(document: dict[str, Any], dependency: str = "payments") -> dict[str, Any]:
    """The route action of calls to a dependency."""
    hosts = outbound_routes(model(document), SIDECAR, "prod/checkout/outbound").wire()
    (host,) = (each for each in hosts["virtual_hosts"] if each["name"] == dependency)
    found: dict[str, Any] = host["routes"][0]["route"]
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


@pytest.mark.parametrize(
    ("per_s", "tokens", "fill"),
    [
        (500, 25, "0.05s"),
        (60, 3, "0.05s"),
        (8, 1, "0.125s"),
        (15, 1, "0.067s"),
        (39, 3, "0.077s"),
        (1990, 101, "0.051s"),
        (0.5, 1, "2s"),
        (1_000_000, 50_000, "0.05s"),
        (0, 1, "86400s"),
    ],
)
def test_a_rate_becomes_whole_tokens_of_at_least_50_ms(
    per_s: float, tokens: int, fill: str
) -> None:
    bucket = bucket_of(Rate(per_s=per_s, burst=40))

    assert (bucket.tokens_per_fill, bucket.fill_interval) == (tokens, fill)
    assert bucket.max_tokens == (40 if per_s else 1)


def test_a_fill_holds_no_more_than_the_burst_where_a_shorter_one_would_do() -> None:
    bucket = bucket_of(Rate(per_s=39, burst=2))

    assert (bucket.tokens_per_fill, bucket.fill_interval) == (2, "0.052s")


@given(
    st.floats(0, 1_000_000, allow_subnormal=False) | st.integers(0, 2000).map(float),
    st.integers(1, 10_000),
)
@example(19.6, 1)
def test_a_bucket_never_lets_more_through_than_the_rate(per_s: float, burst: int) -> None:
    bucket = bucket_of(Rate(per_s=per_s, burst=burst))

    fill_ms = float(bucket.fill_interval.removesuffix("s")) * 1000
    filled_per_s = bucket.tokens_per_fill * 1000 / fill_ms

    assert math.isclose(fill_ms, round(fill_ms), rel_tol=1e-12)  # Envoy drops the fraction
    assert filled_per_s <= max(per_s, 1 / 86_400) * (1 + 1e-9)
    assert filled_per_s >= per_s * 0.98
    assert filled_per_s >= per_s * 0.99 or burst < 2 * bucket.tokens_per_fill


@pytest.mark.parametrize(
    ("value_s", "text"), [(0.25, "0.25s"), (3.0, "3s"), (0.001, "0.001s"), (600.0, "600s")]
)
def test_durations_are_written_in_seconds(value_s: float, text: str) -> None:
    assert seconds(value_s) == text


@pytest.mark.parametrize(
    ("min_per_s", "attempt_ms", "at_once"), [(0, 1000, 0), (0.1, 100, 1), (10, 1500, 15)]
)
def test_a_floor_of_retries_per_second_is_retries_at_once(
    min_per_s: float, attempt_ms: int, at_once: int
) -> None:
    assert retries_at_once(min_per_s, attempt_ms) == at_once


def test_a_route_has_the_deadline_of_its_endpoint() -> None:
    document = {
        "inbound": {"deadline_ms": 2500, "endpoints": {"POST /orders": {"deadline_ms": 1200}}}
    }

    assert route(document, "POST /orders")["route"]["timeout"] == "1.2s"
    assert route(document, "other")["route"]["timeout"] == "2.5s"


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ("GET /", {"path": "/"}),
        ("GET /products/{id}", {"safe_regex": {"regex": "/products/[^/]+"}}),
        ("GET /files/{rest:path}", {"safe_regex": {"regex": "/files/.+"}}),
        ("GET /v1.0/{id}", {"safe_regex": {"regex": r"/v1\.0/[^/]+"}}),
    ],
)
def test_an_endpoint_becomes_a_match_of_method_and_path(key: str, match: dict[str, Any]) -> None:
    found = route({"inbound": {"endpoints": {key: {}}}}, key)["match"]

    assert found == {
        **match, "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
    }  # fmt: skip


def test_more_literal_routes_come_first_and_the_rest_last() -> None:
    keys = ["GET /{all:path}", "GET /a/{id}", "GET /a/b", "GET /{x}/{y}"]

    routes = service_routes({"inbound": {"endpoints": {key: {} for key in keys}}})["routes"]

    assert [each["name"] for each in routes] == [
        "GET /a/b", "GET /a/{id}", "GET /{x}/{y}", "GET /{all:path}", "other",
    ]  # fmt: skip


def test_an_endpoint_is_shed_by_the_key_of_its_criticality_unless_a_request_says_its_own() -> None:
    document = {"inbound": {"endpoints": {"GET /cart": {"criticality": "sheddable_plus"}}}}

    fault = route(document, "GET /cart")["typed_per_filter_config"]["tidegate.shed"]
    others = service_routes(document)["typed_per_filter_config"]["tidegate.shed"]

    assert fault["abort_percent_runtime"] == "tidegate.shed.sheddable_plus"
    assert others["abort_percent_runtime"] == "tidegate.shed.critical"
    assert fault["abort"]["http_status"] == 503
    (condition,) = fault["headers"]
    pattern = condition["string_match"]["safe_regex"]["regex"]
    assert condition["invert_match"] is True
    assert re.fullmatch(pattern, "Critical_Plus")
    assert not re.fullmatch(pattern, "")


def test_tenants_have_buckets_of_their_own_and_shadow_enforces_nothing() -> None:
    tenants = {"default": {"per_s": 5, "burst": 3}, "named": {"acme": {"per_s": 50}}}
    document = {"inbound": {"tenants": {**tenants, "mode": "shadow"}}}

    found = service_routes(document)["typed_per_filter_config"]["tidegate.tenants"]

    acme, others = found["descriptors"]
    assert acme["entries"] == [{"key": "tenant", "value": "acme"}]
    assert acme["token_bucket"]["max_tokens"] == 3
    assert others["entries"] == [{"key": "tenant"}]
    assert found["filter_enforced"]["default_value"]["numerator"] == 0
    assert "tidegate.tenants" not in service_routes({})["typed_per_filter_config"]


def test_a_retry_policy_is_bounded_and_repeats_only_what_may_be_repeated() -> None:
    retry = {
        "max_attempts": 4, "on": ["timeout", "503", "connect_error", "429"],
        "backoff": {"base_ms": 20, "max_ms": 400},
    }  # fmt: skip
    document = calling(retry=retry, timeouts={"attempt_ms": 300})

    policy = call(document)["retry_policy"]

    assert policy["num_retries"] == 3
    assert policy["per_try_timeout"] == "0.3s"
    assert policy["retry_on"] == "connect-failure,refused-stream,reset,retriable-status-codes"
    assert policy["retriable_status_codes"] == [429, 503]
    assert policy["retry_back_off"] == {"base_interval": "0.02s", "max_interval": "0.4s"}
    methods, key = policy["retriable_request_headers"]
    expression = methods["string_match"]["safe_regex"]["regex"]
    assert not re.fullmatch(expression, "POST")
    assert re.fullmatch(expression, "DELETE")
    assert key == {"name": "idempotency-key", "present_match": True}


def test_all_methods_are_repeated_only_when_the_policy_says_so() -> None:
    assert (
        "retriable_request_headers" not in call(calling(retry={"methods": "all"}))["retry_policy"]
    )


def test_a_single_attempt_is_bounded_by_the_route_itself() -> None:
    action = call(calling(retry={"max_attempts": 1}, timeouts={"attempt_ms": 450}))

    assert action == {"cluster": "payments", "timeout": "0.45s"}


def test_a_sidecar_does_not_retry_what_it_passes_to_its_own_service() -> None:
    assert "retry_policy" not in route({}, "other", SIDECAR)["route"]
    assert "retry_policy" in route({}, "other", EDGE)["route"]


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

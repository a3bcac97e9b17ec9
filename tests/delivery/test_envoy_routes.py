"""The routes that Envoy is sent: who is matched, for how long, how often, and how often again."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controlplane.delivery.adapters.xds_node import EnvoyNode
from controlplane.delivery.adapters.xds_routes import inbound_routes, outbound_routes
from controlplane.delivery.adapters.xds_units import bucket_of, retries_at_once, seconds
from controlplane.policies.domain.inbound import Rate
from tests.delivery.envoy_policies import EDGE, SIDECAR, calling, model


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

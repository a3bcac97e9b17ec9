"""The demo's Envoy edge obeys its page: from the API through discovery to real requests."""

from __future__ import annotations

import httpx
import pytest

from tests.scenarios.loop import open_override
from tests.scenarios.stack import Stack
from tests.waiting import HUNG_S, wait_until

pytestmark = pytest.mark.scenario


def search(stack: Stack, **headers: str) -> int:
    (address,) = stack.addresses("edge")
    return httpx.get(f"{address}/search", headers=headers, timeout=HUNG_S).status_code


def test_a_shed_level_set_by_the_api_is_obeyed_by_envoy(stack: Stack) -> None:
    wait_until(
        lambda: search(stack, **{"X-Criticality": "sheddable"}) == 200,
        what="Envoy to follow the end of what was before",
    )

    open_override(stack, {"inbound": {"shedding": {"level": 1}}}, service="edge")

    wait_until(lambda: search(stack, **{"X-Criticality": "sheddable"}) == 503, what="Envoy to shed")
    wait_until(
        lambda: search(stack, **{"X-Criticality": "critical"}) == 200, what="the rest to be served"
    )


def test_a_limit_set_by_the_api_is_obeyed_by_envoy(stack: Stack) -> None:
    tenants = {"named": {"probe": {"per_s": 0.01, "burst": 1}}}

    open_override(stack, {"inbound": {"tenants": tenants}}, service="edge")

    wait_until(
        lambda: search(stack, **{"X-Tenant": "probe"}) == 429, what="Envoy to limit the tenant"
    )
    wait_until(
        lambda: search(stack, **{"X-Tenant": "somebody-else"}) == 200,
        what="another tenant to be served",
    )


def test_the_edge_is_measured_and_reports_what_it_enforces(stack: Stack) -> None:
    def is_seen() -> bool:
        signals = stack.api("GET", "/services/edge/signals?environment=prod")["services"]["edge"]
        return bool(signals["rate_per_s"]) and signals["p99"] is not None

    wait_until(is_seen, what="rate and latency of edge")
    open_override(stack, {"inbound": {"deadline_ms": 4900}}, service="edge")
    wait_until(
        lambda: stack.api("GET", "/services/edge/convergence?environment=prod")["is_complete"],
        what="the edge to have every kind of resource",
    )


def test_the_edge_goes_on_without_us(stack: Stack) -> None:
    with stack.without("web"):
        wait_until(lambda: search(stack) == 200, what="an answer through the edge")

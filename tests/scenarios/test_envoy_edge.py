"""The demo's Envoy edge obeys its page: from the API through discovery to real requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.scenarios.stack import Stack, wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]

BY_RUNTIME_S, BY_DISCOVERY_S = 2.0, 3.0


def open_override(stack: Stack, patch: Mapping[str, Any]) -> float:
    """Open an override on the edge; return when it was committed, at the latest."""
    stack.api(
        "POST",
        "/services/edge/overrides?environment=prod",
        {"patch": patch, "lasts_s": 60, "reason": "scenario test"},
    )
    return time.monotonic()


def search(stack: Stack, **headers: str) -> int:
    (address,) = stack.addresses("edge")
    return httpx.get(f"{address}/search", headers=headers, timeout=10).status_code


def test_a_shed_level_set_by_the_api_is_obeyed_by_envoy_within_2_s(stack: Stack) -> None:
    wait_until(
        lambda: search(stack, **{"X-Criticality": "sheddable"}) == 200,
        what="Envoy to follow the end of what was before",
    )

    committed_s = open_override(stack, {"inbound": {"shedding": {"level": 1}}})
    wait_until(
        lambda: search(stack, **{"X-Criticality": "sheddable"}) == 503,
        within_s=BY_RUNTIME_S,
        what="Envoy to shed",
    )

    assert time.monotonic() - committed_s < BY_RUNTIME_S
    assert search(stack, **{"X-Criticality": "critical"}) == 200


def test_a_limit_set_by_the_api_is_obeyed_by_envoy_within_3_s(stack: Stack) -> None:
    tenants = {"named": {"probe": {"per_s": 0.1, "burst": 1}}}

    open_override(stack, {"inbound": {"tenants": tenants}})

    wait_until(
        lambda: search(stack, **{"X-Tenant": "probe"}) == 429,
        within_s=BY_DISCOVERY_S,
        what="Envoy to limit the tenant",
    )
    assert search(stack, **{"X-Tenant": "somebody-else"}) == 200


def test_the_edge_is_measured_and_reports_what_it_enforces(stack: Stack) -> None:
    def is_seen() -> bool:
        signals = stack.api("GET", "/services/edge/signals?environment=prod")["services"]["edge"]
        return bool(signals["rate_per_s"]) and signals["p99"] is not None

    wait_until(is_seen, within_s=30, what="rate and latency of edge")
    open_override(stack, {"inbound": {"deadline_ms": 4900}})
    wait_until(
        lambda: stack.api("GET", "/services/edge/convergence?environment=prod")["is_complete"],
        within_s=15,
        what="the edge to have every kind of resource",
    )


def test_the_edge_goes_on_without_us(stack: Stack) -> None:
    with stack.without("web"):
        answers = [search(stack) for _ in range(5)]

    assert answers == [200] * 5

"""How soon real services obey, how soon a storm ends, and that overrides end on time."""

from __future__ import annotations

import time

import pytest

from tests.scenarios.loop import (
    STORM_FIX,
    ask,
    attempts_at_payments,
    newest_convergence,
    open_override,
    start_storm,
)
from tests.scenarios.stack import Stack
from tests.scenarios.test_envoy_edge import search
from tests.soak.figures import Figures, seconds_until
from tests.waiting import wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]


def test_a_retry_budget_ends_a_retry_storm(stack: Stack, figures: Figures) -> None:
    start_storm(stack)

    open_override(stack, STORM_FIX)

    took_s = seconds_until(lambda: (attempts_at_payments(stack) or 9) < 1.2, "the storm to end")
    figures.check("retry storm: budget set to attempts under 1.2", took_s, "s", at_most=30.0)


def test_a_change_is_enforced_by_95_percent_within_2_seconds(
    stack: Stack, figures: Figures
) -> None:
    open_override(stack, {"inbound": {"deadline_ms": 2900}})
    took_s = seconds_until(
        lambda: newest_convergence(stack, "checkout")["is_complete"], "every instance to enforce it"
    )

    spread = newest_convergence(stack, "checkout")
    figures.check("published to enforced by 95% of instances", spread["p95_s"], "s", at_most=2.0)
    figures.check("applied to said to be complete", took_s, "s", at_most=10.0)


def test_a_shed_level_is_enforced_and_ends_on_time(stack: Stack, figures: Figures) -> None:
    address = stack.addresses("checkout")[0]
    open_override(stack, {"inbound": {"shedding": {"level": 2}}}, lasts_s=6)

    began_s = seconds_until(lambda: ask(address, "sheddable").status_code == 503, "shedding")
    ended_s = seconds_until(lambda: ask(address, "sheddable").status_code == 200, "its end")

    figures.check("shed level applied to first refusal", began_s, "s", at_most=2.0)
    figures.check("first refusal to the end of a 6 s override", ended_s, "s", at_most=8.0)


def test_an_override_ends_on_time_with_web_worker_and_valkey_stopped(
    stack: Stack, figures: Figures
) -> None:
    addresses = stack.addresses("checkout")
    open_override(stack, {"inbound": {"shedding": {"level": 3}}}, lasts_s=20)
    opened_s = time.monotonic()
    wait_until(lambda: all(ask(each, "critical").status_code == 503 for each in addresses))
    with stack.without("web", "worker", "beat", "valkey"):
        assert [ask(each, "critical").status_code for each in addresses] == [503] * len(addresses)
        wait_until(lambda: all(ask(each, "critical").status_code == 200 for each in addresses))
        lasted_s = time.monotonic() - opened_s

    figures.check("an override of 20 s, with its control plane gone", lasted_s, "s", at_most=22.0)
    assert lasted_s > 19.0


def test_envoy_obeys_the_api_in_time(stack: Stack, figures: Figures) -> None:
    sheddable = {"X-Criticality": "sheddable"}
    wait_until(lambda: search(stack, **sheddable) == 200, what="what was before to be over")
    open_override(stack, {"inbound": {"shedding": {"level": 1}}}, service="edge")
    shed_s = seconds_until(lambda: search(stack, **sheddable) == 503, "Envoy to shed")

    tenants = {"named": {"probe": {"per_s": 0.01, "burst": 1}}}
    open_override(stack, {"inbound": {"tenants": tenants}}, service="edge")
    probe = {"X-Tenant": "probe", "X-Criticality": "critical_plus"}
    limited_s = seconds_until(lambda: search(stack, **probe) == 429, "Envoy to limit")

    figures.check("shed level by API to first refusal of Envoy", shed_s, "s", at_most=2.0)
    figures.check("tenant limit by API to first refusal of Envoy", limited_s, "s", at_most=3.0)

"""Change a policy and watch real services obey: with real processes."""

from __future__ import annotations

import pytest

from tests.scenarios.loop import ask, newest_convergence, open_override, open_short_override
from tests.scenarios.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.scenario

SERVICES = {
    "gateway", "checkout", "payments", "inventory", "fraud", "ledger", "search", "catalog",
}  # fmt: skip
SHED_ALL_BUT_CRITICAL_PLUS = {"inbound": {"shedding": {"level": 3}}}


def test_all_eight_services_have_traffic_in_the_picture(stack: Stack) -> None:
    def has_traffic() -> bool:
        picture = stack.api("GET", "/signals?environment=prod")
        rates = {name: signals["rate_per_s"] for name, signals in picture["services"].items()}
        return rates.keys() >= SERVICES and all(rates[name] for name in SERVICES)

    wait_until(has_traffic, what="traffic at all eight services")


def test_shed_level_2_refuses_what_is_sheddable_and_serves_the_rest(stack: Stack) -> None:
    address = stack.addresses("checkout")[0]
    open_override(stack, {"inbound": {"shedding": {"level": 2}}})
    wait_until(lambda: ask(address, "sheddable_plus").status_code == 503, what="shed level 2")

    refused = ask(address, "sheddable")

    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["Content-Type"] == "application/problem+json"
    # On a machine that is busy enough, one of them may meet its deadline.
    wait_until(
        lambda: ask(address, "critical_plus").status_code == 200, what="the rest to be served"
    )


def test_a_change_is_enforced_by_every_instance_and_said_so(stack: Stack) -> None:
    open_override(stack, {"inbound": {"deadline_ms": 2900}})
    wait_until(
        lambda: newest_convergence(stack, "checkout")["is_complete"],
        what="every instance of checkout to enforce the change",
    )

    spread = newest_convergence(stack, "checkout")

    assert spread["applied"] == spread["live"] == len(stack.addresses("checkout"))
    assert spread["p95_s"] >= 0


def test_an_override_ends_by_itself_with_web_worker_and_valkey_stopped(stack: Stack) -> None:
    addresses = stack.addresses("checkout")
    open_short_override(
        stack,
        SHED_ALL_BUT_CRITICAL_PLUS,
        lambda: all(ask(address, "critical").status_code == 503 for address in addresses),
    )

    with stack.without("web", "worker", "beat", "valkey"):
        wait_until(
            lambda: all(ask(address, "critical").status_code == 200 for address in addresses),
            hung_s=200,  # the longest that such an override lasts, and some
            what="the override to end in every instance",
        )

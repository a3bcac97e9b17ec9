"""See a service fail, change its policy, watch real services obey: with real processes."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import pytest

from tests.scenarios.stack import Stack, wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]

SERVICES = {
    "gateway", "checkout", "payments", "inventory", "fraud", "ledger", "search", "catalog",
}  # fmt: skip
STORM_FIX = {
    "outbound": {
        "dependencies": {"payments": {"retry": {"max_attempts": 2, "budget": {"ratio": 0.10}}}}
    }
}


def attempts_at_payments(stack: Stack) -> float | None:
    read = stack.api("GET", "/services/payments/signals?environment=prod")
    found: float | None = read["services"]["payments"]["attempts_received_per_request"]
    return found


def open_override(stack: Stack, patch: Mapping[str, object], lasts_s: int) -> int:
    opened = stack.api(
        "POST",
        "/services/checkout/overrides?environment=prod",
        {"patch": patch, "lasts_s": lasts_s, "reason": "scenario test"},
    )
    return int(opened["id"])


def newest_convergence(stack: Stack, service: str) -> dict[str, float]:
    found: dict[str, float] = stack.api("GET", f"/services/{service}/convergence?environment=prod")
    return found


def ask(address: str, criticality: str) -> httpx.Response:
    return httpx.get(
        f"{address}/cart", headers={"X-Criticality": criticality, "X-Tenant": "probe"}, timeout=5
    )


def test_all_eight_services_have_traffic_in_the_picture(stack: Stack) -> None:
    def has_traffic() -> bool:
        picture = stack.api("GET", "/signals?environment=prod")
        rates = {name: signals["rate_per_s"] for name, signals in picture["services"].items()}
        return rates.keys() >= SERVICES and all(rates[name] for name in SERVICES)

    wait_until(has_traffic, within_s=30, what="traffic at all eight services")


def test_a_retry_budget_ends_a_retry_storm(stack: Stack) -> None:
    stack.manage("incident", "start", "retry_storm")
    wait_until(
        lambda: (attempts_at_payments(stack) or 0) > 1.5,
        within_s=60,
        what="the storm to show in the picture",
    )

    open_override(stack, STORM_FIX, lasts_s=120)

    wait_until(
        lambda: (attempts_at_payments(stack) or 9) < 1.2,
        within_s=30,
        what="attempts per request at payments to fall under 1.2",
    )


def test_shed_level_2_refuses_what_is_sheddable_until_its_time_is_up(stack: Stack) -> None:
    address = stack.addresses("checkout")[0]
    open_override(stack, {"inbound": {"shedding": {"level": 2}}}, lasts_s=6)
    wait_until(lambda: ask(address, "sheddable_plus").status_code == 503, within_s=2)

    refused, served = ask(address, "sheddable"), ask(address, "critical_plus")

    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert served.status_code == 200
    wait_until(
        lambda: ask(address, "sheddable").status_code == 200,
        within_s=8,
        what="the override to end by itself",
    )


def test_a_change_is_enforced_by_95_percent_within_2_seconds(stack: Stack) -> None:
    open_override(stack, {"inbound": {"deadline_ms": 2900}}, lasts_s=60)
    wait_until(
        lambda: newest_convergence(stack, "checkout")["is_complete"],
        within_s=10,
        what="every instance of checkout to enforce the change",
    )

    spread = newest_convergence(stack, "checkout")

    assert spread["applied"] == spread["live"] == len(stack.addresses("checkout"))
    assert spread["p95_s"] < 2.0


def test_an_override_ends_on_time_with_web_worker_and_valkey_stopped(stack: Stack) -> None:
    addresses = stack.addresses("checkout")
    open_override(stack, {"inbound": {"shedding": {"level": 3}}}, lasts_s=20)
    wait_until(
        lambda: all(ask(address, "critical").status_code == 503 for address in addresses),
        within_s=3,
        what="every instance to shed",
    )
    with stack.without("web", "worker", "beat", "valkey"):
        still_shedding = [ask(address, "critical").status_code for address in addresses]
        waited_s = wait_until(
            lambda: all(ask(address, "critical").status_code == 200 for address in addresses),
            within_s=22,
            what="the override to end in every instance",
        )

    assert still_shedding == [503] * len(addresses)
    assert waited_s > 5

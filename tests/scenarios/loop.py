"""What scenarios do on a running stack: change a policy, ask a service, look at the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import httpx

from controlplane.kernel.clock import utc_now
from tests.scenarios.stack import Stack
from tests.waiting import HUNG_S, wait_until

STORM_FIX = {
    "outbound": {
        "dependencies": {"payments": {"retry": {"max_attempts": 2, "budget": {"ratio": 0.10}}}}
    }
}
FOR_AN_HOUR_S = 3600


def attempts_at_payments(stack: Stack) -> float | None:
    read = stack.api("GET", "/services/payments/signals?environment=prod")
    found: float | None = read["services"]["payments"]["attempts_received_per_request"]
    return found


def start_storm(stack: Stack) -> None:
    """Begin a retry storm at payments; return when the picture shows it."""
    stack.manage("incident", "start", "retry_storm")
    wait_until(
        lambda: (attempts_at_payments(stack) or 0) > 1.5, what="the storm to show in the picture"
    )


def open_override(
    stack: Stack,
    patch: Mapping[str, object],
    *,
    service: str = "checkout",
    lasts_s: int = FOR_AN_HOUR_S,
) -> datetime:
    """Open an override; return when it ends. The `stack` fixture reverts those still in force."""
    opened = stack.api(
        "POST",
        f"/services/{service}/overrides?environment=prod",
        {"patch": patch, "lasts_s": lasts_s, "reason": "scenario test"},
    )
    return datetime.fromisoformat(opened["ends_at"])


def open_short_override(
    stack: Stack, patch: Mapping[str, object], is_in_force: Callable[[], bool]
) -> None:
    """Open an override that ends by itself; return once it was seen in force.

    A machine so slow that the first one ends before it is seen gets one that lasts longer.
    """
    for lasts_s in (10, 40, 160):
        ends_at = open_override(stack, patch, lasts_s=lasts_s)
        while utc_now() < ends_at:
            if is_in_force():
                return
    raise AssertionError(f"never in force: {patch}")


def newest_convergence(stack: Stack, service: str) -> dict[str, float]:
    found: dict[str, float] = stack.api("GET", f"/services/{service}/convergence?environment=prod")
    return found


def ask(address: str, criticality: str) -> httpx.Response:
    return httpx.get(
        f"{address}/cart",
        headers={"X-Criticality": criticality, "X-Tenant": "probe"},
        timeout=HUNG_S,
    )


def picture_state(stack: Stack) -> str:
    found: str = stack.api("GET", "/signals?environment=prod")["state"]
    return found


def is_live_again(stack: Stack) -> bool:
    try:
        return picture_state(stack) == "live"
    except (httpx.TransportError, AssertionError):
        return False

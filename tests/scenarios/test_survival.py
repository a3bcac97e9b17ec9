"""Take the parts away one by one: services keep their policy, pages tell, everything returns."""

from __future__ import annotations

import httpx
import pytest

from tests.scenarios.stack import Stack, wait_until
from tests.scenarios.test_main_loop import ask, newest_convergence, open_override

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]


def picture_state(stack: Stack) -> str:
    found: str = stack.api("GET", "/signals?environment=prod")["state"]
    return found


@pytest.mark.parametrize("part", ["web", "worker", "beat", "valkey", "prometheus"])
def test_services_keep_their_policy_and_the_part_returns_by_itself(stack: Stack, part: str) -> None:
    address = stack.addresses("checkout")[0]
    open_override(stack, {"inbound": {"shedding": {"level": 1}}}, lasts_s=90)
    wait_until(lambda: ask(address, "sheddable").status_code == 503, within_s=3)
    before = stack.pids()[part]

    stack.kill(part)

    assert ask(address, "sheddable").status_code == 503
    assert ask(address, "critical").status_code == 200
    wait_until(
        lambda: stack.pids().get(part) not in (None, before),
        within_s=20,
        what=f"{part} to be started again",
    )
    wait_until(lambda: is_live_again(stack), within_s=45, what="a live picture of the fleet")


@pytest.mark.parametrize(
    ("parts", "words"),
    [(["prometheus"], "Prometheus"), (["worker", "beat"], "worker"), (["valkey"], "cache")],
    ids=["prometheus", "worker", "valkey"],
)
def test_the_picture_says_what_is_stale(stack: Stack, parts: list[str], words: str) -> None:
    wait_until(lambda: is_live_again(stack), within_s=45, what="a live picture")
    with stack.without(*parts):
        wait_until(lambda: picture_state(stack) == "stale", within_s=40, what="a stale picture")
        reason = stack.api("GET", "/signals?environment=prod")["reason"]

    assert words.lower() in reason.lower()
    wait_until(lambda: is_live_again(stack), within_s=45, what="a live picture again")


def test_a_change_reaches_services_without_valkey(stack: Stack) -> None:
    with stack.without("valkey"):
        open_override(stack, {"inbound": {"deadline_ms": 2800}}, lasts_s=60)

        wait_until(
            lambda: newest_convergence(stack, "checkout")["is_complete"],
            within_s=6,
            what="the change to arrive by reconciliation",
        )


def is_live_again(stack: Stack) -> bool:
    try:
        return picture_state(stack) == "live"
    except (httpx.TransportError, AssertionError):
        return False

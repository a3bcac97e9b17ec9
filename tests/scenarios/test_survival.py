"""Take the parts away: services keep their policy, pages tell, everything returns."""

from __future__ import annotations

import pytest

from tests.scenarios.loop import (
    ask,
    is_live_again,
    newest_convergence,
    open_override,
    picture_state,
)
from tests.scenarios.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.scenario

PARTS = ("web", "worker", "beat", "valkey", "prometheus")


def test_services_keep_their_policy_while_every_part_returns_by_itself(stack: Stack) -> None:
    address = stack.addresses("checkout")[0]
    open_override(stack, {"inbound": {"shedding": {"level": 1}}})
    wait_until(lambda: ask(address, "sheddable").status_code == 503, what="shed level 1")
    before = stack.pids()

    for part in PARTS:
        stack.kill(part)

    assert ask(address, "sheddable").status_code == 503
    wait_until(lambda: ask(address, "critical").status_code == 200, what="the rest to be served")
    for part in PARTS:
        wait_until(
            lambda part=part: stack.pids().get(part) not in (None, before[part]),  # type: ignore[misc]
            what=f"{part} to be started again",
        )
    wait_until(lambda: is_live_again(stack), what="a live picture of the fleet")


def test_the_picture_says_that_it_is_stale_and_why(stack: Stack) -> None:
    wait_until(lambda: is_live_again(stack), what="a live picture")
    with stack.without("prometheus"):
        wait_until(lambda: picture_state(stack) == "stale", what="a stale picture")
        reason = stack.api("GET", "/signals?environment=prod")["reason"]

    assert "prometheus" in reason.lower()
    wait_until(lambda: is_live_again(stack), what="a live picture again")


def test_a_change_reaches_services_without_valkey(stack: Stack) -> None:
    with stack.without("valkey"):
        open_override(stack, {"inbound": {"deadline_ms": 2800}})

        wait_until(
            lambda: newest_convergence(stack, "checkout")["is_complete"],
            what="the change to arrive by reconciliation",
        )

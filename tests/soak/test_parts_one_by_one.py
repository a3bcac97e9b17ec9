"""Each part is taken away by itself: services keep their policy, pages tell, it returns."""

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
from tests.soak.figures import Figures, seconds_until
from tests.waiting import wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]


@pytest.mark.parametrize("part", ["web", "worker", "beat", "valkey", "prometheus"])
def test_services_keep_their_policy_and_the_part_returns_by_itself(
    stack: Stack, part: str, figures: Figures
) -> None:
    address = stack.addresses("checkout")[0]
    open_override(stack, {"inbound": {"shedding": {"level": 1}}})
    wait_until(lambda: ask(address, "sheddable").status_code == 503, what="shed level 1")
    before = stack.pids()[part]

    stack.kill(part)

    assert ask(address, "sheddable").status_code == 503
    assert ask(address, "critical").status_code == 200
    back_s = seconds_until(lambda: stack.pids().get(part) not in (None, before), part)
    live_s = seconds_until(lambda: is_live_again(stack), "a live picture of the fleet")
    figures.check(f"{part} killed to started again", back_s, "s", at_most=20.0)
    figures.check(f"{part} started again to a live picture", live_s, "s", at_most=45.0)


@pytest.mark.parametrize(
    ("parts", "words"),
    [(["prometheus"], "Prometheus"), (["worker", "beat"], "worker"), (["valkey"], "cache")],
    ids=["prometheus", "worker", "valkey"],
)
def test_the_picture_says_what_is_stale(
    stack: Stack, parts: list[str], words: str, figures: Figures
) -> None:
    wait_until(lambda: is_live_again(stack), what="a live picture")
    with stack.without(*parts):
        took_s = seconds_until(lambda: picture_state(stack) == "stale", "a stale picture")
        reason = stack.api("GET", "/signals?environment=prod")["reason"]

    assert words.lower() in reason.lower()
    wait_until(lambda: is_live_again(stack), what="a live picture again")
    figures.check(f"{parts[0]} held to a picture that says so", took_s, "s", at_most=40.0)


def test_a_change_reaches_services_without_valkey_in_time(stack: Stack, figures: Figures) -> None:
    with stack.without("valkey"):
        open_override(stack, {"inbound": {"deadline_ms": 2800}})
        took_s = seconds_until(
            lambda: newest_convergence(stack, "checkout")["is_complete"], "reconciliation"
        )

    figures.check("a change without Valkey to complete", took_s, "s", at_most=6.0)

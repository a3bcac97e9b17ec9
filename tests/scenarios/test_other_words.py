"""A change on a service reaches clients that never installed our SDK: with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openfeature.contrib.provider.ofrep import OFREPProvider

from tests.scenarios.stack import Stack, wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]

SERVICE = "gateway"
FOLLOWS_WITHIN_S = 2.0


def token(stack: Stack) -> str:
    return (stack.state_dir / "tokens" / SERVICE).read_text().strip()


def open_override(stack: Stack, level: int, lasts_s: int) -> None:
    stack.api(
        "POST",
        f"/services/{SERVICE}/overrides?environment=prod",
        {
            "patch": {"inbound": {"shedding": {"level": level}}},
            "lasts_s": lasts_s,
            "reason": "scenario test",
        },
    )


@pytest.fixture
def provider(stack: Stack) -> Iterator[OFREPProvider]:
    made = OFREPProvider(
        stack.url, headers_factory=lambda: {"Authorization": f"Bearer {token(stack)}"}
    )
    yield made
    made.session.close()


def test_openfeature_follows_an_override_of_the_shed_level_and_its_end(
    stack: Stack, provider: OFREPProvider
) -> None:
    def is_on() -> bool:
        return provider.resolve_boolean_details("recommendations", True).value

    def level() -> int:
        return provider.resolve_integer_details("tidegate:shed_level", -1).value

    wait_until(
        lambda: (is_on(), level()) == (True, 0),
        within_s=FOLLOWS_WITHIN_S,
        what="what was before to have ended",
    )

    open_override(stack, 1, lasts_s=8)
    took_s = wait_until(lambda: not is_on(), within_s=FOLLOWS_WITHIN_S, what="the feature to go")

    assert level() == 1
    assert took_s < FOLLOWS_WITHIN_S
    wait_until(is_on, within_s=12, what="the override to end by itself")
    assert level() == 0


def test_a_spring_client_reads_the_new_policy_at_its_next_refresh(stack: Stack) -> None:
    def read() -> Any:
        answer = httpx.get(
            f"{stack.url}/spring/{SERVICE}/prod", auth=(SERVICE, token(stack)), timeout=5
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    before = read()
    open_override(stack, 2, lasts_s=30)
    wait_until(
        lambda: read()["version"] != before["version"],
        within_s=FOLLOWS_WITHIN_S,
        what="another version",
    )

    properties = read()["propertySources"][0]["source"]
    assert properties["tidegate.shedding.level"] == 2
    assert properties["tidegate.features.recommendations"] is False

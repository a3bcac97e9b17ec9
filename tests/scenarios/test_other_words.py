"""A change on a service reaches clients that never installed our SDK: with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openfeature.contrib.provider.ofrep import OFREPProvider

from tests.scenarios.loop import open_override
from tests.scenarios.stack import Stack
from tests.waiting import HUNG_S, wait_until

pytestmark = pytest.mark.scenario

SERVICE = "gateway"


def token(stack: Stack) -> str:
    return (stack.state_dir / "tokens" / SERVICE).read_text().strip()


def shed(stack: Stack, level: int) -> None:
    open_override(stack, {"inbound": {"shedding": {"level": level}}}, service=SERVICE)


def revert_all(stack: Stack) -> None:
    found = stack.api("GET", f"/services/{SERVICE}/overrides?environment=prod")
    for override in found["overrides"]:
        stack.api("POST", f"/overrides/{override['id']}/revert", {"reason": "scenario test"})


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

    wait_until(lambda: (is_on(), level()) == (True, 0), what="what was before to have ended")

    shed(stack, 1)
    wait_until(lambda: not is_on(), what="the feature to go")
    assert level() == 1

    revert_all(stack)
    wait_until(is_on, what="the feature to come back")
    assert level() == 0


def test_a_spring_client_reads_the_new_policy_at_its_next_refresh(stack: Stack) -> None:
    def read() -> Any:
        answer = httpx.get(
            f"{stack.url}/spring/{SERVICE}/prod", auth=(SERVICE, token(stack)), timeout=HUNG_S
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    before = read()
    shed(stack, 2)
    wait_until(
        lambda: read()["version"] != before["version"],
        what="another version",
    )

    properties = read()["propertySources"][0]["source"]
    assert properties["tidegate.shedding.level"] == 2
    assert properties["tidegate.features.recommendations"] is False

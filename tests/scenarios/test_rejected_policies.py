"""A policy that an instance rejects reaches the people on call, whatever is down meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.scenarios.stack import Stack
from tests.waiting import HUNG_S, wait_until

pytestmark = pytest.mark.scenario

REASON = "outbound.defaults.breaker.window: no such kind"
INSTANCE = "search-that-rejects"


class Rejecting:
    """One more instance of `search`, which says what it does with its policy."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._token = (stack.state_dir / "tokens/search").read_text()
        self.etag = self.poll().headers["etag"]

    def poll(self, **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(
            f"{self.stack.url}/config/v1/prod/search",
            headers={
                "Authorization": f"Bearer {self._token}",
                "Tidegate-Instance": INSTANCE,
                **given,
            },
            timeout=HUNG_S,
        )

    def reject(self) -> None:
        self.poll(If_None_Match=self.etag, Tidegate_Rejected=f'{self.etag}; reason="{REASON}"')

    def apply(self) -> None:
        self.poll(If_None_Match=self.etag, Tidegate_Applied=self.etag)

    def drift(self) -> list[str]:
        found = self.stack.api("GET", "/drift?environment=prod")
        return [each["kind"] for each in found["instances"] if each["instance_id"] == INSTANCE]

    def heard(self) -> list[dict[str, Any]]:
        return [alert for alert in self.stack.heard if alert["labels"]["service"] == "search"]

    def told(self) -> list[str]:
        alerts = self.stack.api("GET", "/alerts?environment=prod")["alerts"]
        return [
            notice["told"]
            for alert in alerts
            if alert["labels"]["service"] == "search"
            for notice in alert["notices"]
        ]


@pytest.fixture
def rejecting(stack: Stack) -> Iterator[Rejecting]:
    instance = Rejecting(stack)
    yield instance
    instance.apply()  # so that no page tells of it any more


def test_a_rejection_is_told_once_though_the_broker_was_down_and_so_is_its_end(
    rejecting: Rejecting,
) -> None:
    with rejecting.stack.without("valkey"):
        rejecting.reject()
        wait_until(lambda: rejecting.drift() == ["rejected"], what="the rejection to show")
        assert rejecting.heard() == []

    def is_heard() -> bool:
        rejecting.reject()
        return bool(rejecting.heard())

    wait_until(is_heard, hung_s=2 * HUNG_S, what="the alert")
    rejecting.apply()
    wait_until(lambda: len(rejecting.heard()) > 1, hung_s=2 * HUNG_S, what="the end of the alert")
    wait_until(lambda: rejecting.told() == ["resolved"], what="the end to be noted as told")

    heard = rejecting.heard()
    assert [alert["status"] for alert in heard] == ["firing", "resolved"]
    assert heard[0]["annotations"]["reason"] == REASON
    assert heard[0]["annotations"]["convergence_url"].startswith(
        f"{rejecting.stack.url}/convergence/"
    )

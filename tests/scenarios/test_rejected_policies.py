"""A policy that an instance rejects reaches the people on call, whatever is down meanwhile."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.scenarios.stack import Stack, running_stack, wait_until
from tests.telemetry.prometheus_server import http_server, reply

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]

REASON = "outbound.defaults.breaker.window: no such kind"


def poll(stack: Stack, **headers: str) -> httpx.Response:
    token = (stack.state_dir / "tokens/search").read_text()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(
        f"{stack.url}/config/v1/prod/search",
        headers={"Authorization": f"Bearer {token}", "Tidegate-Instance": "search-1", **given},
        timeout=10,
    )


def drift(stack: Stack) -> list[tuple[str, str]]:
    found = stack.api("GET", "/drift?environment=prod")
    return [(each["instance_id"], each["kind"]) for each in found["instances"]]


def told(stack: Stack) -> list[str]:
    alerts = stack.api("GET", "/alerts?environment=prod")["alerts"]
    return [notice["told"] for alert in alerts for notice in alert["notices"]]


def test_a_rejection_is_told_once_though_the_broker_was_down_and_so_is_its_end(
    tmp_path: Path,
) -> None:
    heard: list[dict[str, Any]] = []

    def receive(handler: BaseHTTPRequestHandler, body: str) -> None:
        heard.extend(json.loads(body)["alerts"])
        reply(handler, 200, "", "text/plain")

    variables = {"TIDEGATE_DEMO": "1"}
    with (
        http_server(receive) as receiver,
        running_stack(
            tmp_path, demo=False, variables=variables | {"TIDEGATE_ALERT_WEBHOOK_URL": receiver}
        ) as stack,
    ):
        stack.manage("seed_demo")
        wait_until(lambda: poll(stack).status_code == 200, what="the policy of search")
        stack.hold("valkey")
        etag = poll(stack).headers["etag"]

        poll(stack, If_None_Match=etag, Tidegate_Rejected=f'{etag}; reason="{REASON}"')
        wait_until(lambda: drift(stack) == [("search-1", "rejected")], what="the rejection to show")
        assert heard == []
        stack.release("valkey")
        wait_until(
            lambda: (
                poll(stack, If_None_Match=etag, Tidegate_Rejected=f'{etag}; reason="{REASON}"')
                and heard
            ),
            within_s=90,
            what="the alert",
        )

        poll(stack, If_None_Match=etag, Tidegate_Applied=etag)
        wait_until(lambda: len(heard) > 1, within_s=60, what="the end of the alert")
        wait_until(lambda: told(stack) == ["resolved"], what="the end to be noted as told")

    assert [alert["status"] for alert in heard] == ["firing", "resolved"]
    assert {alert["labels"]["service"] for alert in heard} == {"search"}
    assert heard[0]["annotations"]["reason"] == REASON
    assert heard[0]["annotations"]["convergence_url"].startswith(f"{stack.url}/convergence/")

"""The Tune page of an Envoy: what it says, and that Envoy does what is applied there."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.waiting import HUNG_S, wait_until

pytestmark = pytest.mark.browser

SHEDDABLE = {"X-Criticality": "sheddable"}


def test_what_is_applied_on_the_page_is_obeyed_by_envoy(visitor: Visitor) -> None:
    (address,) = visitor.stack.addresses("edge")
    with visitor.page() as page, httpx.Client(timeout=HUNG_S) as client:
        page.goto("/services/edge/tune/?section=shedding")
        expect(page.locator("main")).to_contain_text("Its instance is an Envoy")
        page.locator('[name="inbound.shedding.level"]').fill("1")
        page.locator("[name=reason]").fill("gateway needs air")
        wait_until(
            lambda: client.get(f"{address}/search", headers=SHEDDABLE).status_code == 200,
            what="Envoy to let it through",
        )

        with page.expect_response(lambda answer: answer.request.method == "POST"):
            page.get_by_role("button", name="Apply").click()

        wait_until(
            lambda: client.get(f"{address}/search", headers=SHEDDABLE).status_code == 503,
            what="Envoy to shed",
        )
        expect(page.locator("[data-spread]")).to_contain_text("1 of 1 instance")


def test_the_page_names_what_envoy_does_not_take(visitor: Visitor) -> None:
    with visitor.page() as page:
        page.goto("/services/edge/tune/?section=breakers")
        controls = page.locator(".section-breakers .control")

        slow = controls.filter(has=page.locator('[name$="breaker.slow_call_ms"]'))
        rate = controls.filter(has=page.locator('[name$="breaker.failure_rate"]'))
        expect(slow).to_contain_text("Envoy does not take this. It judges calls by failure only")
        expect(rate).not_to_contain_text("Envoy")

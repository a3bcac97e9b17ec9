"""A change on a few instances first: started, looked at, widened and taken back, in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor, check_looks, settle

pytestmark = pytest.mark.browser

CANARY = "/services/checkout/canary/"
SHOWN = ("/services/checkout/", CANARY, "/services/checkout/tune/", "/changes/")


def start(page: Page, *, percent: str) -> None:
    page.goto("/services/checkout/")
    page.get_by_role("link", name="Try a change on a few first").click()
    page.get_by_text("Timeouts", exact=True).click()
    page.locator('[name="inbound.deadline_ms"]').fill("2500")
    page.locator("[name=percent]").fill(percent)
    page.get_by_text("15 m", exact=True).click()
    page.locator("[name=reason]").fill("shorter, on a few first")
    expect(page.locator("#preview-checkout")).to_contain_text("Started as a canary")
    page.get_by_role("button", name="Apply").click()


def test_a_change_is_tried_on_a_few_widened_followed_and_taken_back(visitor: Visitor) -> None:
    with visitor.page() as page:
        start(page, percent="0.1")
        expect(page.locator("h1")).to_contain_text("canary started on 0.1% of the instances")

        page.get_by_role("link", name="Widen, promote or end it").click()
        page.get_by_text("100%").click()
        page.get_by_label("Why").fill("it held")
        page.get_by_role("button", name="Widen").click()

        expect(page.locator("h1")).to_contain_text("canary widened to 100% of the instances")
        expect(page.locator("[data-final=yes]")).to_be_visible()
        expect(page.locator("[data-spread]")).to_contain_text("3 of 3 instances")
        page.get_by_role("link", name="Widen, promote or end it").click()
        expect(page.locator("#members-checkout")).to_contain_text("all of them enforce it")
        page.get_by_role("button", name="End now").click()

        expect(page.locator("h1")).to_contain_text("canary ended")
        expect(page.locator("[data-spread]")).to_contain_text("3 of 3 instances")
        page.goto(CANARY)
        expect(page.locator("main")).to_contain_text("No canary")


@pytest.fixture
def canary(visitor: Visitor) -> None:
    """A canary on half of checkout's instances; the stack's fixture ends it."""
    visitor.stack.api(
        "POST",
        "/services/checkout/canary?environment=prod",
        {"document": {"inbound": {"deadline_ms": 2500}}, "ratio": 0.5, "reason": "to be looked at"},
    )


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize("path", SHOWN)
def test_every_page_that_shows_a_canary_looks_right(visitor: Visitor, path: str) -> None:
    with visitor.page() as page:
        page.goto(path)
        settle(page)
        expect(page.locator("main")).to_contain_text(re.compile("canary", re.IGNORECASE))
        check_looks(page, f"{path.strip('/').replace('/', '-')}-with-canary")


def test_a_canary_is_ended_on_the_service_s_page(visitor: Visitor, canary: None) -> None:
    with visitor.page() as page:
        page.goto("/services/checkout/")
        page.get_by_role("button", name="End now").click()
        expect(page.locator("h1")).to_contain_text("canary ended")

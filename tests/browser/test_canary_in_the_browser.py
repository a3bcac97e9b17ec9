"""A change on a few instances first: started, looked at, widened and taken back, in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, Visitor, picture, serious_violations

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

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


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_every_page_that_shows_a_canary_looks_right(
    visitor: Visitor, theme: Literal["dark", "light"], tmp_path: Path
) -> None:
    with visitor.page(theme=theme) as page:
        start(page, percent="50")
        expect(page.locator("h1")).to_contain_text("canary started")

    for size in (DESKTOP, PHONE):
        with visitor.page(theme=theme, size=size) as page:
            for path in SHOWN:
                page.goto(path)
                page.wait_for_load_state("networkidle")
                expect(page.locator("main")).to_contain_text(re.compile("canary", re.IGNORECASE))
                name = path.strip("/").replace("/", "-")
                picture(page, f"{name}-with-canary-{theme}-{size[0]}", fallback=tmp_path)

                overflow = page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                assert overflow <= 0, f"{path} scrolls sideways by {overflow} px"
                assert serious_violations(page) == [], f"{path} ({theme}, {size[0]})"

    with visitor.page(theme=theme) as page:
        page.goto("/services/checkout/")
        page.get_by_role("button", name="End now").click()
        expect(page.locator("h1")).to_contain_text("canary ended")

"""Every page, at desktop and phone width, dark and light: nothing serious, nothing cut off."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor, check_looks, settle
from tests.scenarios.stack import Stack

pytestmark = pytest.mark.browser

PAGES = {
    "sign-in": "/login/",
    "fleet": "/",
    "service": "/services/checkout/",
    "tune": "/services/checkout/tune/?section=retries",
    "changes": "/changes/",
    "convergence": "/convergence/",
    "publication": "/convergence/{newest}/",
    "not-found": "/services/no-such-service/",
}


def newest_sequence(stack: Stack) -> int:
    """The newest publication of a service."""
    found = stack.api("GET", "/publications?environment=prod&limit=1")
    return int(found["publications"][0]["sequence"])


def settle_on(page: Page, name: str) -> None:
    """Wait until what the page shows is there."""
    settle(page)
    if name == "service":
        # A stack that has just started has measured nothing yet; the charts come by themselves.
        expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=60_000)


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious_and_nothing_scrolls_sideways(
    visitor: Visitor, name: str
) -> None:
    with visitor.page(None if name == "sign-in" else "oncall") as page:
        page.goto(PAGES[name].format(newest=newest_sequence(visitor.stack)))
        settle_on(page, name)
        check_looks(page, name)


def test_charts_draw_under_the_strict_policy(visitor: Visitor) -> None:
    with visitor.page() as page:
        answer = page.goto("/services/checkout/")
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        settle_on(page, "service")

        directives = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
        assert directives["script-src"] == "'self'"
        expect(page.locator(".js-plotly-plot .main-svg").nth(3)).to_be_attached()


def test_the_fleet_page_refreshes_without_losing_the_reader_s_place(visitor: Visitor) -> None:
    with visitor.page() as page:
        expect(page.locator("tr[data-key=ledger]")).to_be_visible()
        page.locator("#service-ledger").focus()

        with page.expect_response("**/regions/fleet**"):
            pass

        expect(page.locator("#service-ledger")).to_be_focused()

"""Every page, at desktop and phone width, dark and light: nothing serious, nothing cut off."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, Visitor, picture, serious_violations
from tests.scenarios.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

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


THEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")
SIZES = {"desktop": DESKTOP, "phone": PHONE}
NOTHING_SIDEWAYS = (
    "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
)
TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def newest_sequence(stack: Stack) -> int:
    """The newest publication of a service."""
    found = stack.api("GET", "/publications?environment=prod&limit=1")
    return int(found["publications"][0]["sequence"])


def settle(page: Page, name: str) -> None:
    """Wait until what the page shows is there."""
    page.wait_for_load_state("networkidle")
    if name == "service":
        # A stack that has just started has measured nothing yet; the charts come by themselves.
        expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=60_000)


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious_and_nothing_scrolls_sideways(
    visitor: Visitor, name: str, tmp_path: Path
) -> None:
    with visitor.page(None if name == "sign-in" else "oncall") as page:
        page.goto(PAGES[name].format(newest=newest_sequence(visitor.stack)))
        settle(page, name)
        for theme, (width, size) in product(THEMES, SIZES.items()):
            page.emulate_media(color_scheme=theme)
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.evaluate(TWO_FRAMES)
            page.wait_for_function(NOTHING_SIDEWAYS)  # charts follow the width
            picture(page, f"{name}-{theme}-{width}", fallback=tmp_path)
            assert serious_violations(page) == [], f"{name} ({theme}, {width})"


def test_charts_draw_under_the_strict_policy(visitor: Visitor) -> None:
    with visitor.page() as page:
        answer = page.goto("/services/checkout/")
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        settle(page, "service")

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

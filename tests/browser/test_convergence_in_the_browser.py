"""A change is watched as it arrives, instance by instance, in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.scenarios.loop import open_override

pytestmark = pytest.mark.browser


def newest(visitor: Visitor) -> int:
    found = visitor.stack.api("GET", "/publications?environment=prod&service=checkout&limit=1")
    return int(found["publications"][0]["sequence"])


def test_a_publication_turns_up_by_itself_and_is_followed_to_its_end(visitor: Visitor) -> None:
    with visitor.page() as page:
        page.goto("/convergence/")
        open_override(visitor.stack, {"inbound": {"deadline_ms": 2700}})
        sequence = newest(visitor)

        row = page.locator("tr", has=page.locator(f"#publication-{sequence}"))
        expect(row).to_contain_text("converged")
        expect(row).to_contain_text("3/3")
        expect(row.locator("svg.curve path.applied")).to_have_count(1)
        page.locator(f"#publication-{sequence}").focus()
        page.keyboard.press("Enter")

        page.wait_for_url(f"**/convergence/{sequence}/**")
        expect(page.locator("[data-final=yes]")).to_be_visible()
        journeys = page.locator("svg.journey")
        expect(journeys).to_have_count(3)
        for index in range(3):
            expect(journeys.nth(index)).to_have_attribute(
                "aria-label", re.compile(r"^fetched after [\d.]+ s, applied after [\d.]+ s$")
            )
        assert page.locator("[hx-get]").count() == 0  # nothing will change any more


def test_the_reader_s_place_survives_refreshes(visitor: Visitor) -> None:
    with visitor.page() as page:
        page.goto("/convergence/")
        page.locator("#older").focus()

        with page.expect_response("**/convergence/regions/publications**"):
            pass

        expect(page.locator("#older")).to_be_focused()
        page.locator("[data-pause]").focus()
        with page.expect_response("**/convergence/regions/drift**"):
            pass
        expect(page.locator("[data-pause]")).to_be_focused()

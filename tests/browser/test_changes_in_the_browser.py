"""What the scripts of Tune and Changes add: less to send, one click for one change, other tabs."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NOTHING_SIDEWAYS, PHONE, TWO_FRAMES, Visitor
from tests.scenarios.stack import Stack

pytestmark = pytest.mark.browser

TUNE = "/services/checkout/tune/?section=timeouts"
DEADLINE = "inbound.deadline_ms"
URL_AS_REASON = "https://wiki.example/" + "a" * 440
HEARD = """() => {
    window.heard = 0;
    document.body.addEventListener("override-changed", () => { window.heard += 1; });
}"""


def overrides(stack: Stack) -> list[dict[str, object]]:
    found = stack.api("GET", "/services/checkout/overrides?environment=prod")
    return list(found["overrides"])


def revert(page: Page) -> None:
    page.goto("/changes/")
    page.locator("button[id^=revert-]").first.click()
    expect(page.locator("h1")).to_contain_text("reverted", ignore_case=True)


def test_only_what_changed_is_sent_to_the_preview_and_on_apply(visitor: Visitor) -> None:
    with visitor.page() as page:
        page.goto(TUNE)
        with page.expect_request("**/tune/regions/preview*") as previewed:
            page.locator(f'[name="{DEADLINE}"]').fill("2500")
        expect(page.locator("#preview-checkout")).to_contain_text("2,500 ms")
        page.locator("[name=reason]").fill("less to send")
        is_apply = lambda request: request.method == "POST" and request.url.endswith("/tune/")  # noqa: E731
        with page.expect_request(is_apply) as applied:
            page.get_by_role("button", name="Apply").click()
        expect(page.locator("[data-spread]")).to_be_visible()

        for request in (previewed.value, applied.value):
            sent = dict(parse_qsl(request.post_data or "", keep_blank_values=True))
            controls = [name for name in sent if name.startswith("was:")]
            assert controls == [f"was:{DEADLINE}"]
            assert sent[DEADLINE] == "2500"
        revert(page)


def test_a_double_click_on_apply_is_one_override_and_shows_it(visitor: Visitor) -> None:
    with visitor.page() as page:
        page.goto(TUNE)
        page.locator(f'[name="{DEADLINE}"]').fill("2500")
        page.locator("[name=reason]").fill("an impatient click")
        page.get_by_role("button", name="Apply").dblclick()

        expect(page.locator("h1")).to_contain_text("override opened")
        assert len(overrides(visitor.stack)) == 1
        revert(page)
        assert overrides(visitor.stack) == []


def test_a_change_in_one_tab_is_news_in_the_others_at_once(visitor: Visitor) -> None:
    with visitor.page() as page:
        page.goto("/services/checkout/")
        page.evaluate(HEARD)
        other = page.context.new_page()
        other.goto(TUNE)
        other.locator(f'[name="{DEADLINE}"]').fill("2500")
        other.locator("[name=reason]").fill("seen elsewhere")
        with page.expect_request("**/services/checkout/regions/recent*"):
            other.get_by_role("button", name="Apply").click()
            expect(other.locator("h1")).to_contain_text("override opened")
            page.wait_for_function("() => window.heard === 1")
        revert(other)


def test_a_reason_without_a_space_does_not_widen_a_page(visitor: Visitor) -> None:
    with visitor.page() as page:
        page.goto(TUNE)
        page.locator(f'[name="{DEADLINE}"]').fill("2500")
        page.locator("[name=reason]").fill(URL_AS_REASON)
        page.get_by_role("button", name="Apply").click()
        expect(page.locator("main")).to_contain_text(URL_AS_REASON)
        for url in (page.url, "/changes/", "/services/checkout/", "/convergence/"):
            page.goto(url)
            for width in (PHONE[0], 1440):
                page.set_viewport_size({"width": width, "height": 900})
                page.evaluate(TWO_FRAMES)
                page.wait_for_function(NOTHING_SIDEWAYS)  # charts follow the width
        revert(page)

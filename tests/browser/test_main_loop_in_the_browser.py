"""What the engineer on call does at 3 a.m., in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Visitor, picture

pytestmark = pytest.mark.browser

BUDGET = "outbound.dependencies.payments.retry.budget.ratio"
ATTEMPTS = "outbound.dependencies.payments.retry.max_attempts"


def test_find_the_failing_service_tune_it_see_it_applied_and_revert(visitor: Visitor) -> None:
    visitor.stack.manage("incident", "start", "retry_storm")
    with visitor.page() as page:
        row = page.locator("tr[data-key=checkout]")
        expect(row).to_contain_text("retry storm")
        expect(page.locator("tbody tr").first).to_have_attribute(
            "data-key", re.compile("checkout|edge|gateway|payments")
        )

        picture(page, "fleet-storm")

        page.locator("#service-checkout").click()
        page.get_by_role("link", name="Tune policy").click()
        page.get_by_text("Retries", exact=True).click()
        page.locator(f'[name="{BUDGET}"]').fill("10")
        page.locator(f'[name="{ATTEMPTS}"]').fill("2")
        page.get_by_text("15 m", exact=True).click()
        expect(page.locator("#preview-checkout")).to_contain_text("2 fields")
        page.locator("[name=reason]").fill("Retry storm on payments, INC-2291")
        page.evaluate("scrollTo(0, 0)")
        picture(page, "tune-storm")
        page.get_by_role("button", name="Apply").click()

        expect(page.locator("[data-final=yes]")).to_be_visible()
        expect(page.locator("[data-spread]")).to_contain_text("3 of 3 instances")
        shown = page.locator("[data-final=yes]").inner_text()
        assert "p99" in shown

        page.locator("#revert").click()

        expect(page.locator("h1")).to_contain_text("reverted", ignore_case=True)
        expect(page.locator("[data-final=yes]")).to_be_visible()
        page.goto("/changes/")
        expect(page.locator("main")).to_contain_text("Retry storm on payments, INC-2291")
        expect(page.locator("main")).to_contain_text("oncall")


def test_a_bad_number_is_explained_beside_its_field_and_changes_nothing(visitor: Visitor) -> None:
    with visitor.page() as page:
        page.goto("/services/checkout/tune/?section=timeouts")
        field = page.locator('[name="inbound.deadline_ms"]')
        field.fill("-5")
        page.locator("[name=reason]").fill("a typing error")
        page.get_by_role("button", name="Apply").click()

        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("Nothing was changed")
        expect(page.locator('[name="inbound.deadline_ms"]')).to_have_attribute(
            "aria-invalid", "true"
        )
    found = visitor.stack.api("GET", "/services/checkout/overrides?environment=prod")
    assert found["overrides"] == []


def test_what_is_typed_while_a_preview_is_on_its_way_is_previewed_too(visitor: Visitor) -> None:
    with visitor.page() as page:
        held: list[Route] = []

        def hold_the_first(route: Route) -> None:
            if held:
                route.continue_()
            else:
                held.append(route)

        page.route("**/tune/regions/preview*", hold_the_first)
        page.goto("/services/checkout/tune/?section=timeouts")
        with page.expect_request("**/tune/regions/preview*"):
            page.locator('[name="inbound.deadline_ms"]').fill("2500")
        page.locator('[name="inbound.deadline_ms"]').fill("2600")
        page.locator("[name=reason]").fill("typed while the answer was on its way")

        held[0].continue_()

        expect(page.locator("#preview-checkout")).to_contain_text("2,600 ms")


def test_a_reason_is_required(visitor: Visitor) -> None:
    with visitor.page() as page:
        page.goto("/services/checkout/tune/?section=timeouts")
        page.locator('[name="inbound.deadline_ms"]').fill("2500")
        page.get_by_role("button", name="Apply").click()

        expect(page.get_by_role("alert")).to_contain_text("Say why")
    found = visitor.stack.api("GET", "/services/checkout/overrides?environment=prod")
    assert found["overrides"] == []


def test_a_viewer_can_look_and_cannot_change(visitor: Visitor) -> None:
    with visitor.page("viewer") as page:
        page.goto("/services/checkout/tune/")

        expect(page.get_by_role("button", name="Apply")).to_have_count(0)
        expect(page.locator('[name="inbound.shedding.level"]')).to_be_disabled()
        answer = page.request.post("/services/checkout/tune/", form={"reason": "x"})
        assert answer.status == 403


def test_the_main_loop_works_by_keyboard_alone(visitor: Visitor) -> None:
    with visitor.page(None) as page:
        page.goto("/login/")
        expect(page.get_by_label("Name")).to_be_focused()
        page.keyboard.type("oncall")
        page.keyboard.press("Tab")
        page.keyboard.type("tidegate-demo")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{visitor.stack.url}/")

        page.keyboard.press("/")
        page.keyboard.type("checkout")
        page.keyboard.press("Enter")
        page.wait_for_url("**/services/checkout/**")
        _tab_to(page, "Tune policy")
        page.keyboard.press("Enter")
        page.wait_for_url("**/tune/**")
        _tab_to(page, "Shed level")
        page.keyboard.press("Control+A")
        page.keyboard.type("1")
        _tab_to(page, "Why")
        page.keyboard.type("by keyboard")
        page.keyboard.press("Enter")

        expect(page.locator("[data-final=yes]")).to_be_visible()
        _tab_to(page, "Revert now")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_contain_text("reverted", ignore_case=True)


def _tab_to(page, name: str) -> None:  # type: ignore[no-untyped-def]
    """Press Tab until the focused element is called `name`; fails after 120 presses."""
    script = """() => {
        const it = document.activeElement;
        if (it === document.body) return "";
        const labels = it.labels ? [...it.labels].map((label) => label.textContent) : [];
        return [it.getAttribute("aria-label"), it.placeholder, it.textContent, ...labels].join(" ");
    }"""
    for _ in range(120):
        page.keyboard.press("Tab")
        if name in page.evaluate(script):
            return
    raise AssertionError(f"Tab never reached {name!r}")

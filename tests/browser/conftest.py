"""A real Chromium, signed-in pages, and axe."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.scenarios.stack import ROOT, Stack

PASSWORD = "tidegate-demo"
PATIENCE_MS = 15_000  # for what has no bound of its own: it passes as soon as it is so
DESKTOP = (1440, 1000)
PHONE = (390, 844)
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Opens pages of one stack as somebody."""

    browser: Browser
    stack: Stack

    @contextmanager
    def page(
        self,
        user: str | None = "oncall",
        *,
        size: tuple[int, int] = DESKTOP,
        theme: Literal["dark", "light"] = "dark",
    ) -> Iterator[Page]:
        """A page, signed in as `user` unless that is None; fails on any console error."""
        context = self.browser.new_context(
            base_url=self.stack.url,
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,
            reduced_motion="reduce",
            bypass_csp=False,
        )
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: complaints.append(message.text) if message.type == "error" else None,
        )
        if user is not None:
            sign_in(page, user)
        yield page
        context.close()
        assert [text for text in complaints if "Content Security Policy" in text] == []


def picture(page: Page, name: str, *, fallback: Path | None = None) -> None:
    """Save what the page shows; TIDEGATE_SCREENSHOTS=docs/images renews README's pictures."""
    folder = os.environ.get("TIDEGATE_SCREENSHOTS")
    if folder is not None or fallback is not None:
        page.screenshot(path=(ROOT / folder if folder else fallback or ROOT) / f"{name}.png")


def sign_in(page: Page, user: str) -> None:
    """Sign in by the form."""
    page.goto("/login/")
    page.get_by_label("Name").fill(user)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: not url.endswith("/login/"))


def serious_violations(page: Page) -> list[str]:
    """Return what axe calls serious or critical on the page as it stands."""
    # Evaluated by the driver, not added as a script element: the page's own CSP stays in force.
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run(document)).violations")
    return [
        f"{each['id']}: {each['help']} at {each['nodes'][0]['target']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.fixture
def chromium() -> Iterator[Browser]:
    # One per test: while it is open, Playwright's event loop occupies the thread, and no test of
    # a coroutine could run after it.
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    tools = ROOT / ".tidegate/tools/bin/chromium"
    if path is None and tools.exists():
        path = str(tools)
    assert path, "Chromium is not installed. Get it with: apt-get install -y chromium"
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def visitor(chromium: Browser, stack: Stack) -> Visitor:
    return Visitor(chromium, stack)

"""A real Chromium, signed-in pages, and axe."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, StorageState, expect, sync_playwright

from tests.scenarios.stack import ROOT, Stack
from tests.waiting import HUNG_S

PASSWORD = "tidegate-demo"
PATIENCE_MS = HUNG_S * 1000  # it passes as soon as it is so
DESKTOP = (1440, 1000)
PHONE = (390, 844)
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
THEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")
SIZES = {"desktop": DESKTOP, "phone": PHONE}
NOTHING_SIDEWAYS = (
    "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
)
TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
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
    signed_in: dict[str, StorageState]

    @contextmanager
    def page(
        self,
        user: str | None = "oncall",
        *,
        size: tuple[int, int] = DESKTOP,
        theme: Literal["dark", "light"] = "dark",
    ) -> Iterator[Page]:
        """A page, signed in as `user` unless that is None; fails on any console error."""
        if user is not None and user not in self.signed_in:
            with self.page(None) as page:
                sign_in(page, user)
                self.signed_in[user] = page.context.storage_state()
        with self.browser.new_context(
            base_url=self.stack.url,
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,
            reduced_motion="reduce",
            bypass_csp=False,
            storage_state=self.signed_in.get(user or ""),
        ) as context:
            context.set_default_timeout(PATIENCE_MS)
            with watched(context.new_page()) as page:
                if user is not None:
                    page.goto("/")
                yield page


@contextmanager
def watched(page: Page) -> Iterator[Page]:
    """The page; afterwards, that its policy refused nothing on it."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    yield page
    assert [text for text in complaints if "Content Security Policy" in text] == []


def settle(page: Page) -> None:
    """Wait until what the page fetches by itself is there."""
    page.wait_for_function(
        "() => document.readyState === 'complete' && !document.querySelector('.htmx-request')"
    )


def picture(page: Page, name: str) -> None:
    """Save what the page shows, if asked: TIDEGATE_SCREENSHOTS=docs/images renews README's."""
    folder = os.environ.get("TIDEGATE_SCREENSHOTS")
    if folder is not None:
        page.screenshot(path=ROOT / folder / f"{name}.png")


def sign_in(page: Page, user: str) -> None:
    """Sign in by the form."""
    page.goto("/login/")
    page.get_by_label("Name").fill(user)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: not url.endswith("/login/"))


def check_looks(page: Page, name: str) -> None:
    """Look at a page in both themes and at both widths: nothing serious, nothing sideways."""
    # Evaluated by the driver, not added as a script element: the page's own CSP stays in force.
    page.evaluate(AXE.read_text())
    for theme, (width, size) in product(THEMES, SIZES.items()):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.evaluate(TWO_FRAMES)
        page.wait_for_function(NOTHING_SIDEWAYS)  # charts follow the width
        picture(page, f"{name}-{theme}-{width}")
        assert serious_violations(page) == [], f"{name} ({theme}, {width})"


def serious_violations(page: Page) -> list[str]:
    """Return what axe, evaluated before, calls serious or critical on the page as it stands."""
    found = page.evaluate(
        "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
    )
    return [
        f"{each['id']}: {each['help']} at {each['nodes'][0]['target']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    # While it is open, Playwright's event loop occupies the thread, and no test of a coroutine
    # could run: `tests.scenarios.order` puts the tests that use it last.
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    tools = ROOT / ".tidegate/tools/bin/chromium"
    if path is None and tools.exists():
        path = str(tools)
    assert path, "Chromium is not installed. Get it with: apt-get install -y chromium"
    expect.set_options(timeout=PATIENCE_MS)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=path, args=SWITCHES, timeout=PATIENCE_MS
        ) as browser,
    ):
        yield browser


@pytest.fixture(scope="session")
def signed_in() -> dict[str, StorageState]:
    """The cookies of those who have signed in so far, by name."""
    return {}


@pytest.fixture
def visitor(chromium: Browser, stack: Stack, signed_in: dict[str, StorageState]) -> Visitor:
    return Visitor(chromium, stack, signed_in)

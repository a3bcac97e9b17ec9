from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from controlplane.access.http import session_life
from controlplane.registry.models import Environment
from dashboards.forms import sign_in as form
from dashboards.views import session
from tests.api.client import user_with

HOUR = timedelta(hours=1)


class Hands:
    """A clock that a test moves."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, now: datetime) -> Hands:
    hands = Hands(now)
    for module in (session_life, session, form):
        monkeypatch.setattr(module, "utc_now", hands)
    return hands


@pytest.fixture
def browser(client: Client, prod: Environment, clock: Hands) -> Client:
    cache.clear()
    user: User = user_with("viewer", "viewer")
    user.set_password("correct horse battery")
    user.save()
    client.post("/login/", {"username": "viewer", "password": "correct horse battery"})
    return client


def is_signed_in(browser: Client, **headers: str) -> bool:
    return browser.get("/api/v1/me", headers=headers).status_code == 200


def test_a_session_that_is_used_goes_on(browser: Client, clock: Hands) -> None:
    for _ in range(5):
        clock.now += 11 * HOUR
        assert is_signed_in(browser)


def test_a_session_that_nobody_uses_ends_after_twelve_hours(browser: Client, clock: Hands) -> None:
    clock.now += 12 * HOUR

    assert not is_signed_in(browser)


def test_what_a_page_refreshes_by_itself_keeps_no_session_alive(
    browser: Client, clock: Hands
) -> None:
    for _ in range(11):
        clock.now += HOUR
        assert is_signed_in(browser, **{"HX-Request": "true"})
    clock.now += HOUR

    assert not is_signed_in(browser, **{"HX-Request": "true"})


def test_no_session_lasts_longer_than_seven_days(browser: Client, clock: Hands) -> None:
    for _ in range(16):
        clock.now += 10 * HOUR
        assert is_signed_in(browser)
    clock.now += 8 * HOUR

    assert not is_signed_in(browser)


def test_use_is_written_down_once_a_minute_at_most(browser: Client, clock: Hands) -> None:
    written = browser.session[session_life.USED]
    clock.now += timedelta(seconds=59)
    is_signed_in(browser)
    assert browser.session[session_life.USED] == written

    clock.now += timedelta(seconds=1)
    is_signed_in(browser)
    assert browser.session[session_life.USED] == written + 60

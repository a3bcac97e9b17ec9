from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from controlplane.access.models import AuditEntry, Membership
from controlplane.access.services import password_queue
from controlplane.access.services.password_queue import PasswordQueue
from controlplane.access.services.sign_in_counts import COUNTS
from controlplane.registry.models import Environment

OLD, NEW = "correct horse battery", "staple paper clip 7"


@pytest.fixture(autouse=True)
def fresh_counters() -> Iterator[None]:
    cache.clear()
    COUNTS.forget()
    yield
    COUNTS.forget()


@pytest.fixture
def ann(prod: Environment) -> User:
    user = User.objects.create_user("ann", password=OLD)
    Membership.objects.create(user=user, role="viewer")
    return user


@pytest.fixture
def browser(ann: User) -> Client:
    client = Client()
    client.force_login(ann)
    return client


def form(old: str = OLD, new: str = NEW, again: str = NEW) -> dict[str, str]:
    return {"old": old, "new": new, "again": again}


def test_changing_the_password_ends_the_other_sessions_and_is_audited(
    ann: User, browser: Client
) -> None:
    other = Client()
    other.force_login(ann)

    answer = browser.post("/account/password/", form(), follow=True)

    assert "Your password is changed" in answer.content.decode()
    assert browser.get("/").status_code == 200
    assert other.get("/")["Location"].startswith("/login/")
    ann.refresh_from_db()
    assert ann.check_password(NEW)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.subject) == ("password.changed", "ann", "user:ann")
    assert NEW not in str(entry.data)
    assert OLD not in str(entry.data)


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (form(old="wrong"), "This is not your present password."),
        (form(again="something else 12"), "The new passwords are not the same."),
        (form(new="short", again="short"), "at least 12 characters"),
        (form(new="q1w2e3r4t5y6", again="q1w2e3r4t5y6"), "too common"),
        (form(new="x" * 2000, again="x" * 2000), "at most 1024 characters"),
    ],
    ids=["wrong old one", "not twice the same", "short", "common", "endless"],
)
def test_a_password_that_is_not_good_enough_is_refused_and_says_why(
    ann: User, browser: Client, sent: dict[str, str], sentence: str
) -> None:
    answer = browser.post("/account/password/", sent)

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    ann.refresh_from_db()
    assert ann.check_password(OLD)
    assert not AuditEntry.objects.filter(action="password.changed").exists()


def test_old_passwords_are_guessed_no_faster_than_at_the_door(ann: User, browser: Client) -> None:
    statuses = [browser.post("/account/password/", form(old="wrong")).status_code for _ in range(5)]
    answer = browser.post("/account/password/", form())

    assert (statuses, answer.status_code) == ([422] * 5, 429)
    assert int(answer["Retry-After"]) > 0
    assert AuditEntry.objects.filter(action="password.change_refused").count() == 5
    ann.refresh_from_db()
    assert ann.check_password(OLD)


def test_a_full_queue_says_when_to_come_back(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(password_queue, "PASSWORDS", PasswordQueue(at_once=0, waiting=0))

    answer = browser.post("/account/password/", form())

    assert (answer.status_code, answer["Retry-After"]) == (503, "5")


def test_the_demo_keeps_the_passwords_it_shows(ann: User, settings: LazySettings) -> None:
    settings.TIDEGATE = replace(settings.TIDEGATE, demo=True)
    settings.TIDEGATE_ALLOW_DEMO = True
    oncall, client = User.objects.create_user("oncall", password=OLD), Client()
    client.force_login(oncall)

    page, sent = client.get("/account/password/"), client.post("/account/password/", form())

    assert "logins are shared" in page.content.decode()
    assert 'name="old"' not in page.content.decode()
    assert sent.status_code == 403
    oncall.refresh_from_db()
    assert oncall.check_password(OLD)


def test_who_holds_no_role_changes_their_password_too(ann: User) -> None:
    nobody, client = User.objects.create_user("nobody", password=OLD), Client()
    client.force_login(nobody)

    assert 'name="old"' in client.get("/account/password/").content.decode()
    answer = client.post("/account/password/", form(), follow=True)

    assert "Your password is changed" in answer.content.decode()


def test_every_page_leads_to_it_and_strangers_are_led_to_sign_in(browser: Client) -> None:
    assert 'href="/account/password/"' in browser.get("/").content.decode()
    assert Client().get("/account/password/")["Location"] == "/login/?next=/account/password/"
    assert browser.get("/admin/password_change/")["Location"] == "/account/password/"

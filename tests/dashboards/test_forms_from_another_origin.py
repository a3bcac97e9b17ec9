"""Behind a proxy browsers have another origin than the process sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client

from controlplane.project.env import read_environment

PUBLIC = "https://tidegate.example:8443"
FORM = {"username": "oncall", "password": "tidegate-demo"}


@pytest.fixture
def browser(db: None) -> Client:
    User.objects.create_user("oncall", password="tidegate-demo")
    client = Client(enforce_csrf_checks=True)
    client.get("/login/")
    return client


def send(browser: Client, origin: str) -> tuple[int, str]:
    token = browser.cookies["csrftoken"].value
    answer = browser.post(
        "/login/", FORM | {"csrfmiddlewaretoken": token}, headers={"Origin": origin}
    )
    return answer.status_code, answer.content.decode()


def test_signing_in_works_from_the_public_address(browser: Client, settings: LazySettings) -> None:
    environment = read_environment({"TIDEGATE_PUBLIC_URL": PUBLIC + "/"})
    settings.CSRF_TRUSTED_ORIGINS = [environment.public_origin]
    settings.TIDEGATE = replace(settings.TIDEGATE, public_url=environment.public_url)

    assert send(browser, PUBLIC)[0] == 302


def test_from_another_address_the_page_names_it_and_the_setting(browser: Client) -> None:
    status, html = send(browser, PUBLIC)

    assert status == 403
    assert PUBLIC in html
    assert "TIDEGATE_PUBLIC_URL" in html
    assert "stale" not in html
    assert "testserver" not in html
    assert "127.0.0.1" not in html


def test_what_a_stranger_sends_as_origin_is_shown_as_text_and_cut(browser: Client) -> None:
    status, html = send(browser, "https://<script>alert(1)</script>" + "x" * 5000)

    assert status == 403
    assert "<script>alert" not in html
    assert "x" * 300 not in html


def test_an_old_token_is_still_called_stale(browser: Client) -> None:
    answer = browser.post("/login/", FORM, headers={"Origin": "http://testserver"})

    assert answer.status_code == 403
    assert "That form has gone stale" in answer.content.decode()

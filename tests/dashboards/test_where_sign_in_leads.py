from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client

from controlplane.registry.models import Environment, Service

NESTED = "/login/?next=" + quote("/login/?next=" + quote("/login/"))
NOWHERE = [
    "/login/", "/login/?next=/login/", NESTED, "/%6Cogin/?next=/login/", "/logout/",
    "/admin/login/?next=/admin/", "/theme/", "/regions/fleet", "/changes/regions/history", "https://elsewhere.example/changes/",
    "//elsewhere.example/", "/\\elsewhere.example/", "javascript:alert(1)", "http://[::1", "\n",
]  # fmt: skip


@pytest.mark.parametrize("target", NOWHERE)
def test_someone_signed_in_is_led_to_the_first_page_rather_than_round_and_round(
    operator: Client, prod: Environment, target: str
) -> None:
    answer = operator.get("/login/", {"next": target})

    assert (answer.status_code, answer["Location"]) == (302, "/")


@pytest.mark.parametrize("target", NOWHERE)
def test_signing_in_never_leads_back_to_sign_in_or_elsewhere(
    client: Client, prod: Environment, target: str
) -> None:
    User.objects.create_user("oncall", password="tidegate-demo")
    page = client.get("/login/", {"next": target})

    answer = client.post(
        "/login/", {"username": "oncall", "password": "tidegate-demo", "next": target}
    )

    assert page.status_code == 200
    assert (answer.status_code, answer["Location"]) == (302, "/")


def test_someone_signed_in_is_led_to_the_page_they_asked_for(
    operator: Client, prod: Environment
) -> None:
    answer = operator.get("/login/", {"next": "/changes/?kind=version&q=%2F"})

    assert answer["Location"] == "/changes/?kind=version&q=%2F"


@pytest.mark.parametrize(
    "path", ["/changes/?kind=version&q=%2F", "/services/checkout/tune/?environment=prod"]
)
def test_a_page_whose_session_has_ended_is_where_sign_in_leads(
    client: Client, prod: Environment, path: str
) -> None:
    User.objects.create_user("oncall", password="tidegate-demo")
    door = client.get(path)["Location"]

    answer = client.post(door, {"username": "oncall", "password": "tidegate-demo"} | _next(door))

    assert answer["Location"] == path


@pytest.mark.parametrize(
    ("came_from", "leads_to"),
    [
        ("http://testserver/services/checkout/?range=1h", "/services/checkout/?range=1h"),
        ("https://tidegate.example:8443/changes/", "/changes/"),
        ("https://elsewhere.example/changes/", "/"),
        ("http://testserver/login/?next=/changes/", "/"),
        ("http://[::1", "/"),
        ("", "/"),
    ],
)
def test_a_form_whose_session_has_ended_leads_back_to_its_page(
    client: Client, checkout: Service, settings: LazySettings, came_from: str, leads_to: str
) -> None:
    settings.TIDEGATE = replace(settings.TIDEGATE, public_url="https://tidegate.example:8443")
    headers = {"Referer": came_from} if came_from else {}

    answer = client.post("/overrides/7/revert", headers=headers)

    assert _next(answer["Location"]) == {"next": leads_to}


@pytest.mark.parametrize(
    ("page", "leads_to"),
    [
        ("http://testserver/?environment=prod&q=pay", "/?environment=prod&q=pay"),
        ("https://elsewhere.example/changes/", "/"),
    ],
)
def test_a_region_whose_session_has_ended_takes_its_whole_page_to_sign_in_and_back(
    client: Client, prod: Environment, page: str, leads_to: str
) -> None:
    answer = client.get("/regions/fleet", headers={"HX-Request": "true", "HX-Current-URL": page})

    assert _next(answer["HX-Redirect"]) == {"next": leads_to}


def _next(door: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(door).query))

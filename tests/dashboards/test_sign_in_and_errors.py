from __future__ import annotations

from dataclasses import replace

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import OperationalError
from django.test import Client, RequestFactory

from controlplane.kernel.errors import Unavailable
from controlplane.registry.models import Environment, Service
from dashboards.views import errors, scope


def test_the_demo_shows_its_logins(client: Client, db: None, settings: LazySettings) -> None:
    settings.TIDEGATE = replace(settings.TIDEGATE, demo=True)
    settings.TIDEGATE_ALLOW_DEMO = True

    html = client.get("/login/").content.decode()

    assert "oncall" in html
    assert "tidegate-demo" in html


@pytest.mark.parametrize(("demo", "allowed"), [(False, True), (True, False)])
def test_outside_the_demo_no_login_is_shown(
    client: Client, db: None, settings: LazySettings, demo: bool, allowed: bool
) -> None:
    settings.TIDEGATE = replace(settings.TIDEGATE, demo=demo)
    settings.TIDEGATE_ALLOW_DEMO = allowed

    assert "tidegate-demo" not in client.get("/login/").content.decode()


def test_signing_in_goes_where_one_wanted_to_go(client: Client, prod: Environment) -> None:
    User.objects.create_user("oncall", password="tidegate-demo")

    answer = client.post(
        "/login/", {"username": "oncall", "password": "tidegate-demo", "next": "/changes/"}
    )

    assert answer["Location"] == "/changes/"


def test_a_wrong_password_says_so_without_saying_which(client: Client, db: None) -> None:
    answer = client.post("/login/", {"username": "oncall", "password": "wrong"})

    assert "do not belong together" in answer.content.decode()
    assert 'value="oncall"' in answer.content.decode()


def test_signing_out_needs_a_post(operator: Client, prod: Environment) -> None:
    assert operator.get("/logout/").status_code == 405
    assert operator.post("/logout/")["Location"] == "/login/"
    assert operator.get("/")["Location"].startswith("/login/")


@pytest.mark.parametrize("theme", ["dark", "light", "system"])
def test_the_theme_is_kept_in_a_cookie_and_rendered_by_the_server(
    operator: Client, prod: Environment, theme: str
) -> None:
    answer = operator.post("/theme/", {"theme": theme, "next": "/changes/?kind=version"})

    assert answer["Location"] == "/changes/?kind=version"
    assert f'<html lang="en" data-theme="{theme}">' in operator.get("/").content.decode()


def test_a_theme_choice_leads_nowhere_else(operator: Client, prod: Environment) -> None:
    answer = operator.post("/theme/", {"theme": "neon", "next": "https://elsewhere.example/"})

    assert answer["Location"] == "/"
    assert "tidegate_theme" not in answer.cookies
    operator.cookies["tidegate_theme"] = '"><script>'
    assert 'data-theme="system"' in operator.get("/").content.decode()


def test_an_unknown_service_is_a_404_with_a_way_on(operator: Client, prod: Environment) -> None:
    answer = operator.get("/services/nobody/")

    assert answer.status_code == 404
    html = answer.content.decode()
    assert "nobody" in html
    assert "Find it on Fleet" in html


def test_an_unknown_address_is_a_404_page(operator: Client, prod: Environment) -> None:
    assert "Nothing here by that name" in operator.get("/no/such/page").content.decode()


def test_without_an_environment_the_page_says_who_adds_one(operator: Client) -> None:
    answer = operator.get("/")

    assert answer.status_code == 404
    assert "An admin adds one" in answer.content.decode()


def test_a_user_without_a_role_sees_that_they_have_none(client: Client, checkout: Service) -> None:
    client.force_login(User.objects.create_user("nobody"))

    answer = client.get("/")

    assert answer.status_code == 403
    html = answer.content.decode()
    assert "holds no role yet" in html
    assert "Sign out" in html


@pytest.mark.parametrize(
    ("view", "status", "sentence"),
    [
        (errors.bad_request, 400, "makes no sense"),
        (errors.forbidden, 403, "You may not do this"),
        (errors.not_found, 404, "Nothing here"),
        (errors.server_error, 500, "keeps enforcing its last policy"),
        (errors.unavailable, 503, "overrides still end on time"),
        (errors.csrf_failure, 403, "Nothing was changed"),
    ],
    ids=["400", "403", "404", "500", "503", "csrf"],
)
def test_error_pages_read_nothing_and_say_what_to_do(
    rf: RequestFactory, view: object, status: int, sentence: str
) -> None:
    request = rf.get("/", headers={"X-Request-ID": "night-42"})

    answer = view(request)  # type: ignore[operator]

    assert answer.status_code == status
    assert sentence in answer.content.decode()
    assert "night-42" in answer.content.decode()


def test_a_host_name_that_is_not_allowed_is_told_where_to_allow_it(client: Client) -> None:
    page = client.get("/login/", headers={"Host": "tidegate.example"})
    script = client.get("/api/v1/me", headers={"Host": "tidegate.example"})

    assert page.status_code == script.status_code == 400
    assert "TIDEGATE_ALLOWED_HOSTS" in page.content.decode()
    assert script["Content-Type"] == "application/problem+json"
    assert script.json()["field"] == "Host"
    assert "TIDEGATE_ALLOWED_HOSTS" in script.json()["detail"]


def test_503_says_when_to_come_back(rf: RequestFactory) -> None:
    answer = errors.page_of(rf.get("/"), Unavailable("The cache is away.", retry_after_s=7.4))

    assert answer["Retry-After"] == "7"
    assert "The cache is away." in answer.content.decode()


def test_a_database_that_is_away_is_a_503_and_not_a_crash(
    operator: Client, prod: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> list[Environment]:
        raise OperationalError("connection refused")

    monkeypatch.setattr(scope, "list_environments", fails)

    answer = operator.get("/")

    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"
    assert "The database does not answer." in answer.content.decode()


@pytest.mark.parametrize("path", ["/", "/regions/fleet"])
def test_a_session_that_cannot_be_read_is_a_503_and_not_a_crash(
    operator: Client, prod: Environment, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def fails(store: SessionStore) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(SessionStore, "load", fails)

    answer = operator.get(path)

    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"


@pytest.mark.parametrize(
    ("path", "name"),
    [("/?environment=%00", "environment"), ("/changes/?service=a%00", "service"), ("/?q=%00", "q")],
)
def test_a_nul_in_an_address_is_a_page_that_names_the_parameter(
    operator: Client, checkout: Service, path: str, name: str
) -> None:
    answer = operator.get(path)

    assert answer.status_code == 400
    assert f"{name} holds a NUL character" in answer.content.decode()

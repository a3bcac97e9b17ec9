from __future__ import annotations

from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.urls import get_resolver

from controlplane.registry.models import Environment
from tests.api.client import ApiClient


def description(client: ApiClient) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(client.get("/schema").content)
    return document


def test_the_description_generates_without_a_warning(tmp_path: Any) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "api.yml"))


def test_every_address_of_the_api_is_described(viewer: ApiClient, prod: Environment) -> None:
    described = set(description(viewer)["paths"])
    named = {
        str(name)
        for name in get_resolver().reverse_dict
        if isinstance(name, str) and name.startswith("api-")
    }

    assert description(viewer)["openapi"].startswith("3.1")
    # The description and its pages do not describe themselves.
    assert len(described) == len(named - {"api-schema", "api-docs"})


def test_every_post_takes_an_idempotency_key_and_names_its_security(viewer: ApiClient) -> None:
    posts = [
        methods["post"] for methods in description(viewer)["paths"].values() if "post" in methods
    ]

    assert len(posts) == 7
    for post in posts:
        assert "Idempotency-Key" in {each["name"] for each in post["parameters"]}
        assert {"operatorToken": []} in post["security"]


def test_the_pages_of_the_api_load_nothing_from_elsewhere(viewer: ApiClient) -> None:
    response = viewer.get("/docs", Accept="text/html")

    page = response.content.decode()
    assert response.status_code == 200
    assert "cdn." not in page
    assert "https://" not in page
    assert "<script>" not in page
    policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy + ";"


@pytest.mark.parametrize("path", ["/instances", "/signals", "/services"])
def test_reads_work_on_an_empty_environment(
    viewer: ApiClient, prod: Environment, path: str
) -> None:
    assert viewer.get(path).status_code == 200

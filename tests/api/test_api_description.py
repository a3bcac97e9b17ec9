from __future__ import annotations

from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.urls import get_resolver
from jsonschema import Draft202012Validator

from controlplane.kernel.clock import utc_now
from controlplane.registry.models import Environment, Service
from tests.api.client import ApiClient
from tests.policies.builders import deadline, open_on, publish_on, shed, start_on


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The description, which takes seconds to write and to read."""
    file = tmp_path_factory.mktemp("description") / "api.yml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(file))
    return read(file.read_bytes())


def read(text: bytes) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)
    return found


def test_the_description_generates_without_a_warning_and_is_served(
    document: dict[str, Any], viewer: ApiClient
) -> None:
    assert read(viewer.get("/schema").content) == document


def test_every_address_of_the_api_is_described(document: dict[str, Any]) -> None:
    described = set(document["paths"])
    named = {
        str(name)
        for name in get_resolver().reverse_dict
        if isinstance(name, str) and name.startswith("api-")
    }

    assert document["openapi"].startswith("3.1")
    # The description and its pages do not describe themselves.
    assert len(described) == len(named - {"api-schema", "api-docs"})


def test_every_post_takes_an_idempotency_key_and_names_its_security(
    document: dict[str, Any],
) -> None:
    posts = [methods["post"] for methods in document["paths"].values() if "post" in methods]

    assert len(posts) >= 9
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


@pytest.mark.parametrize(
    ("path", "described"),
    [
        ("/changes", "/changes"),
        ("/changes?limit=0", "/changes"),
        ("/policy-schema", "/policy-schema"),
        ("/services/checkout/policy", "/services/{service_slug}/policy"),
        ("/services/nope/policy", "/services/{service_slug}/policy"),
        ("/overrides/1", "/overrides/{override_id}"),
        ("/services/checkout/canary", "/services/{service_slug}/canary"),
    ],
)
def test_answers_are_as_described(
    document: dict[str, Any], checkout: Service, viewer: ApiClient, path: str, described: str
) -> None:
    publish_on(checkout, utc_now(), deadline(900))
    override = open_on(checkout, utc_now(), shed(1))
    start_on(checkout, utc_now())

    answer = viewer.get(path.replace("/1", f"/{override.pk}"))

    responses = document["paths"][f"/api/v1{described}"]["get"]["responses"]
    content = responses.get(str(answer.status_code), responses["default"])["content"]
    schema = content[answer.headers["Content-Type"].split(";")[0]]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())

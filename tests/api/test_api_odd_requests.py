"""Requests that nobody sends by accident, each answered in words and never with a 500."""

from __future__ import annotations

import base64

import pytest
import yaml

from controlplane.kernel.clock import utc_now
from controlplane.policies.models import Override
from controlplane.registry.models import Service
from tests.api.client import ApiClient
from tests.policies.builders import deadline, publish_on

OVERRIDES = "/services/checkout/overrides"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=" + "9" * 5000, "limit"),
        ("limit=-1", "limit"),
        ("since=0001-01-01T00:00:00%2B14:00", "since"),
        ("since=9999-12-31T23:59:59-14:00", "since"),
        ("since=2026-01-01T00:00:00", "since"),
    ],
    ids=["endless limit", "negative limit", "before all time", "after all time", "no zone"],
)
def test_an_odd_parameter_of_the_history_is_refused_by_name(
    checkout: Service, viewer: ApiClient, query: str, field: str
) -> None:
    response = viewer.get(f"/changes?{query}")

    assert response.status_code == 422
    assert response.json()["field"] == field


def cursor_of(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    ["[" * 60_000, "[" * 700 + "]" * 700, f"[{'9' * 30}]", '["a\\u0000"]', '["\\ud800"]', "[true]"],
    ids=["endless", "deep", "a number over 64 bits", "NUL", "half a character", "no key"],
)
@pytest.mark.parametrize("path", ["/changes", "/instances", "/service-tokens"])
def test_a_cursor_that_is_none_of_ours_is_refused_by_name(
    checkout: Service, admin: ApiClient, path: str, text: str
) -> None:
    response = admin.get(f"{path}?cursor={cursor_of(text)}")

    assert response.status_code == 422
    assert response.json()["field"] == "cursor"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/changes?environment=%00", "environment"),
        ("/changes?service=%00", "service"),
        ("/changes?actor=a%00b", "actor"),
        ("/instances?limit=1&service=x&service=%00", "service"),
        ("/publications?environment=prod&service=%00", "service"),
        ("/services/checkout/policy?environment=%00", "environment"),
        ("/alerts?environment=%00", "environment"),
        ("/changes?%00a=1", "a"),
    ],
)
def test_a_nul_in_a_parameter_is_refused_by_name(
    checkout: Service, viewer: ApiClient, path: str, field: str
) -> None:
    response = viewer.get(path)

    problem = response.json()
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.status_code, problem["field"]) == (400, field)
    assert problem["detail"] == f"{field} holds a NUL character"


LISTS = [
    "/alerts", "/changes", "/drift", "/environments", "/fleet-default/versions", "/instances",
    "/publications", "/publications/1/instances", "/service-tokens", "/services",
    "/services/checkout/overrides", "/services/checkout/versions", "/signing-keys",
]  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
def test_a_parameter_that_a_list_does_not_have_is_refused_by_name(
    checkout: Service, admin: ApiClient, path: str
) -> None:
    response = admin.get(f"{path}?enviroment=prod")

    assert response.status_code == 400
    assert response.json()["field"] == "enviroment"
    assert response.json()["detail"].startswith("no parameter is named enviroment; ")


def test_every_list_takes_the_parameters_that_are_described_and_no_other(
    checkout: Service, admin: ApiClient
) -> None:
    publish_on(checkout, utc_now(), deadline(900))
    document = yaml.safe_load(admin.get("/schema").content)
    found = {
        path.removeprefix("/api/v1"): [
            each["name"] for each in methods["get"].get("parameters", []) if each["in"] == "query"
        ]
        for path, methods in document["paths"].items()
        if methods.get("get", {}).get("operationId", "").startswith("list_")
    }

    assert len(found) == len(LISTS)
    for path, names in found.items():
        address = path.replace("{service_slug}", "checkout").replace("{sequence}", "1")
        for name in names:
            refused = admin.get(f"{address}?{name}=").json().get("detail", "")
            assert "no parameter is named" not in refused, (path, name)


@pytest.mark.parametrize("live", ["yes", "1", "True", "0"])
def test_instances_are_live_or_not_and_nothing_else(
    checkout: Service, viewer: ApiClient, live: str
) -> None:
    response = viewer.get(f"/instances?live={live}")

    assert response.status_code == 422
    assert response.json()["field"] == "live"
    assert response.json()["detail"] == "live must be one of: true, false"


def test_a_body_too_large_for_the_server_is_refused_with_a_key_as_without(
    checkout: Service, oncall: ApiClient
) -> None:
    body = b'{"reason": "' + b"x" * 1_200_000 + b'"}'

    answers = [oncall.post(OVERRIDES, body), oncall.post(OVERRIDES, body, Idempotency_Key="k1")]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert {answer.json()["detail"] for answer in answers} == {"the body is larger than 512 KiB"}


def test_an_override_is_not_opened_on_a_policy_that_has_changed(
    checkout: Service, oncall: ApiClient
) -> None:
    body = {"patch": deadline(900), "reason": "x"}
    seen = oncall.get("/services/checkout/policy").headers["ETag"]
    publish_on(checkout, utc_now(), deadline(1000))

    assert oncall.post(OVERRIDES, body, If_Match=seen).status_code == 412
    assert oncall.post(OVERRIDES, body, If_Match="v1").status_code == 422
    assert Override.objects.count() == 0
    now = oncall.get("/services/checkout/policy").headers["ETag"]
    assert oncall.post(OVERRIDES, body, If_Match=now).status_code == 201

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError

from controlplane.access.models import AuditEntry
from controlplane.access.services import audit
from controlplane.kernel.clock import utc_now
from controlplane.policies.models import Override, PolicyVersion
from controlplane.registry.models import Environment, Service
from tests.api.client import ApiClient
from tests.policies.builders import (
    backoff,
    deadline,
    level_of,
    newest,
    open_on,
    publish_on,
    shed,
    stored_state,
)

VERSIONS = "/services/checkout/versions"
OVERRIDES = "/services/checkout/overrides"


def test_the_policy_names_the_layer_of_each_value_and_what_it_beat(
    checkout: Service, viewer: ApiClient
) -> None:
    publish_on(checkout, utc_now(), shed(1))
    override = open_on(checkout, utc_now(), shed(3))

    response = viewer.get("/services/checkout/policy")

    body = response.json()
    (field,) = [each for each in body["fields"] if each["path"] == "inbound.shedding.level"]
    assert (body["version"], body["sequence"]) == (1, newest().sequence)
    assert level_of(body["policy"]) == 3
    assert [layer["label"] for layer in body["layers"]] == ["v1", f"override {override.pk}"]
    assert (field["value"], field["layer"]) == (3, f"override {override.pk}")
    assert {"layer": "v1", "value": 1} in field["beat"]
    assert response.headers["ETag"].startswith('"v1-')


def test_a_version_is_published_read_and_published_again(
    checkout: Service, oncall: ApiClient
) -> None:
    created = oncall.post(VERSIONS, {"document": deadline(1000), "reason": "faster"})
    oncall.post(VERSIONS, {"document": {}, "reason": "slower"})

    assert created.status_code == 201
    assert created.json()["number"] == 1
    assert created.headers["ETag"] == '"v1"'
    location = created.headers["Location"].split("/api/v1", 1)[1]
    assert oncall.get(location).json()["document"] == deadline(1000)
    again = oncall.post(f"{VERSIONS}/1/publish", {"reason": "undo"})
    assert (again.status_code, again.json()["number"]) == (201, 3)
    assert [each["number"] for each in oncall.get(VERSIONS).json()["versions"]] == [3, 2, 1]


def test_if_match_protects_against_lost_updates(checkout: Service, oncall: ApiClient) -> None:
    body = {"document": deadline(1000), "reason": "x"}

    def post(if_match: str) -> int:
        return oncall.post(VERSIONS, body, If_Match=if_match).status_code

    assert post('"v0"') == 201
    assert post('"v0"') == 412
    assert post('W/"v1"') == 412
    assert post('"v0", "v1"') == 201
    assert post(oncall.get("/services/checkout/policy").headers["ETag"]) == 201
    assert post("*") == 201
    assert post("v4") == 422
    assert PolicyVersion.objects.count() == 4


def test_a_policy_etag_goes_stale_with_an_override(checkout: Service, oncall: ApiClient) -> None:
    etag = oncall.get("/services/checkout/policy").headers["ETag"]
    open_on(checkout, utc_now(), shed(2))

    response = oncall.post(VERSIONS, {"document": {}, "reason": "x"}, If_Match=etag)

    assert (response.status_code, response.json()["code"]) == (412, "precondition-failed")


def test_an_override_is_opened_extended_and_reverted(checkout: Service, oncall: ApiClient) -> None:
    opened = oncall.post(OVERRIDES, {"patch": shed(2), "lasts_s": 60, "reason": "drowning"})

    body = opened.json()
    assert (opened.status_code, body["sequence"]) == (201, 1)
    override = Override.objects.get()
    assert override.ends_at - override.starts_at == timedelta(seconds=60)
    assert oncall.get(OVERRIDES).json()["overrides"][0]["id"] == body["id"]

    path = f"/overrides/{body['id']}"
    extended = oncall.post(f"{path}/extend", {"by_s": 30.5, "reason": "still"}).json()
    assert extended["sequence"] == 2
    reverted = oncall.post(f"{path}/revert", {"reason": "calm"})
    assert (reverted.status_code, reverted.json()["closed_by"]) == (200, "oncall/test")
    assert oncall.post(f"{path}/revert", {"reason": "calm"}).status_code == 409
    assert oncall.get(path).json()["closed_at"] is not None
    assert oncall.get(OVERRIDES).json()["overrides"] == []


def test_an_override_lasts_an_hour_unless_its_author_says_otherwise(
    checkout: Service, oncall: ApiClient
) -> None:
    oncall.post(OVERRIDES, {"patch": shed(2), "reason": "drowning"})

    override = Override.objects.get()
    assert override.ends_at - override.starts_at == timedelta(hours=1)


BAD_REQUESTS: dict[str, tuple[str, Any, int, str]] = {
    "unknown body field": (VERSIONS, {"document": {}, "reason": "x", "force": 1}, 422, "force"),
    "no reason": (VERSIONS, {"document": {}}, 422, "reason"),
    "blank reason": (VERSIONS, {"document": {}, "reason": " "}, 422, "reason"),
    "number as reason": (VERSIONS, {"document": {}, "reason": 5}, 422, "reason"),
    "no document": (VERSIONS, {"reason": "x"}, 422, "document"),
    "document is a list": (VERSIONS, {"document": [], "reason": "x"}, 422, ""),
    "document is null": (VERSIONS, {"document": None, "reason": "x"}, 422, "document"),
    "body is a list": (VERSIONS, [], 422, ""),
    "wrong type": (
        VERSIONS,
        {"document": {"inbound": {"deadline_ms": "3 s"}}, "reason": "x"},
        422,
        "inbound.deadline_ms",
    ),
    "boolean as number": (
        VERSIONS,
        {"document": {"inbound": {"deadline_ms": True}}, "reason": "x"},
        422,
        "inbound.deadline_ms",
    ),
    "out of range": (
        VERSIONS,
        {"document": {"inbound": {"shedding": {"level": 9}}}, "reason": "x"},
        422,
        "inbound.shedding.level",
    ),
    "unknown field": (
        VERSIONS,
        {"document": {"inbound": {"deadline": 3000}}, "reason": "x"},
        422,
        "inbound.deadline",
    ),
    "contradiction": (
        VERSIONS,
        {"document": backoff(base_ms=9000, max_ms=100), "reason": "x"},
        422,
        "outbound.defaults.retry.backoff",
    ),
    "empty patch": (OVERRIDES, {"patch": {}, "reason": "x"}, 422, ""),
    "duration as text": (
        OVERRIDES,
        {"patch": shed(1), "lasts_s": "60", "reason": "x"},
        422,
        "lasts_s",
    ),
    "duration too long": (
        OVERRIDES,
        {"patch": shed(1), "lasts_s": 8 * 3600 + 1, "reason": "x"},
        422,
        "lasts_s",
    ),
    "duration infinite": (
        OVERRIDES,
        b'{"patch": {"inbound": {}}, "lasts_s": 1e999, "reason": "x"}',
        422,
        "lasts_s",
    ),
    "not JSON": (VERSIONS, b"{", 400, ""),
    "NaN": (
        VERSIONS,
        b'{"document": {"inbound": {"deadline_ms": NaN}}, "reason": "x"}',
        422,
        "inbound.deadline_ms",
    ),
    "infinity": (
        OVERRIDES,
        b'{"patch": {"inbound": {"rate": {"per_s": 1e999}}}, "reason": "x"}',
        422,
        "inbound.rate.per_s",
    ),
    "duration NaN": (
        OVERRIDES,
        b'{"patch": {"inbound": {"deadline_ms": 900}}, "lasts_s": NaN, "reason": "x"}',
        422,
        "lasts_s",
    ),
    "duration huge": (
        OVERRIDES,
        {"patch": shed(1), "lasts_s": 10**30, "reason": "x"},
        422,
        "lasts_s",
    ),
    "patch not an object": (OVERRIDES, {"patch": [], "reason": "x"}, 422, "patch"),
    "key twice": (VERSIONS, b'{"reason": "x", "reason": "y", "document": {}}', 400, "reason"),
    "not UTF-8": (VERSIONS, b'{"reason": "\xff", "document": {}}', 400, "reason"),
    "nested too deeply": (VERSIONS, b"[" * 100_000, 400, ""),
    "document nested deeply": (
        VERSIONS,
        b'{"reason": "x", "document": ' + b'{"a":' * 50 + b"1" + b"}" * 50 + b"}",
        422,
        "",
    ),
    "too large": (VERSIONS, b'{"reason": "' + b"x" * 600_000 + b'"}', 400, ""),
    "unknown service": ("/services/nope/versions", {"document": {}, "reason": "x"}, 404, ""),
    "unknown environment": (
        f"{VERSIONS}?environment=nope",
        {"document": {}, "reason": "x"},
        404,
        "environment",
    ),
    "unknown override": ("/overrides/999/revert", {"reason": "x"}, 404, ""),
    "unknown version": (f"{VERSIONS}/999/publish", {"reason": "x"}, 404, "number"),
}


@pytest.mark.parametrize(
    ("path", "body", "status", "where"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys()
)
def test_a_bad_request_is_refused_with_its_place_and_changes_nothing(
    checkout: Service, oncall: ApiClient, path: str, body: Any, status: int, where: str
) -> None:
    publish_on(checkout, utc_now(), deadline(2000))
    before = stored_state()

    response = oncall.post(path, body)

    document = response.json()
    paths = [each["path"] for each in document.get("problems", ())] + [document.get("field", "")]
    assert response.status_code == status, document
    assert response.headers["Content-Type"] == "application/problem+json"
    assert document["detail"]
    assert any(each.startswith(where) for each in paths)
    assert stored_state() == before


def test_a_body_that_is_not_json_is_415(checkout: Service, oncall: ApiClient) -> None:
    from django.test import Client

    response = Client().post(
        f"/api/v1{VERSIONS}",
        {"reason": "x"},
        headers={"Authorization": f"Bearer {oncall.token}"},
    )

    assert response.status_code == 415


def test_an_environment_must_be_named_when_there_are_several(
    checkout: Service, viewer: ApiClient
) -> None:
    Environment.objects.create(slug="staging", name="Staging")

    response = viewer.get("/services")

    assert response.status_code == 422
    assert response.json()["detail"] == "environment must be one of: prod, staging"
    assert viewer.get("/services?environment=prod").json()["services"][0]["slug"] == "checkout"


def test_the_fleet_default_is_published_and_rolled_back(
    checkout: Service, admin: ApiClient
) -> None:
    assert admin.get("/fleet-default").json() == {"fleet_default": None}
    first = admin.post("/fleet-default", {"document": deadline(2500), "reason": "x"})
    stale = admin.post("/fleet-default", {"document": {}, "reason": "x"}, If_Match='"v0"')
    admin.post("/fleet-default", {"document": {}, "reason": "x"}, If_Match='"v1"')
    admin.post("/fleet-default/versions/1/publish", {"reason": "undo"})

    assert (first.status_code, stale.status_code) == (201, 412)
    assert admin.get("/fleet-default").headers["ETag"] == '"v3"'
    numbers = [each["number"] for each in admin.get("/fleet-default/versions").json()["versions"]]
    assert numbers == [3, 2, 1]
    assert newest("checkout").policy["inbound"]["deadline_ms"] == 2500


def test_changes_page_by_cursor_and_filter(checkout: Service, oncall: ApiClient) -> None:
    for milliseconds in (1000, 1100, 1200):
        publish_on(checkout, utc_now(), deadline(milliseconds))
    open_on(checkout, utc_now())

    first = oncall.get("/changes?limit=2").json()
    second = oncall.get(f"/changes?limit=2&cursor={first['next_cursor']}").json()

    actions = [each["action"] for each in (*first["changes"], *second["changes"])]
    assert actions == ["override.opened", *["version.published"] * 3]
    assert second["next_cursor"] is None
    assert first["changes"][0]["undo"] == "revert"
    assert len(oncall.get("/changes?kind=version").json()["changes"]) == 3
    assert oncall.get("/changes?actor=nobody").json()["changes"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=WyJhIl0", "cursor"),
        ("kind=everything", "kind"),
        ("since=yesterday", "since"),
        ("since=2026-11-02T02:14:00", "since"),
    ],
)
def test_a_bad_parameter_is_named(
    checkout: Service, viewer: ApiClient, query: str, field: str
) -> None:
    response = viewer.get(f"/changes?{query}")

    assert (response.status_code, response.json()["field"]) == (422, field)


@pytest.mark.parametrize("count", [2, 30])
def test_lists_take_the_same_queries_however_long(
    prod: Environment,
    checkout: Service,
    viewer: ApiClient,
    count: int,
    django_assert_num_queries: Callable[..., Any],
) -> None:
    now = utc_now()
    for index in range(count):
        Service.objects.create(
            environment=prod, slug=f"service-{index}", team=checkout.team, registered_at=now
        )
        open_on(checkout, now, shed(index % 4))

    # Two of each are the token and its user's roles, one is the environment.
    for path, queries in (("/services", 6), (OVERRIDES, 5), ("/changes", 6)):
        with django_assert_num_queries(queries):
            assert viewer.get(f"{path}?limit=200").status_code == 200


def test_the_policy_schema_is_json_schema_with_units(viewer: ApiClient, prod: Environment) -> None:
    response = viewer.get("/policy-schema")

    assert response.headers["Content-Type"] == "application/schema+json"
    assert response.json()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_database_that_does_not_answer_is_a_503_with_retry_after(
    checkout: Service, oncall: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(**_: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(audit, "record", locked)

    response = oncall.post(OVERRIDES, {"patch": shed(1), "reason": "x"})

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert "nothing was changed" in response.json()["detail"]
    assert Override.objects.count() == 0


def test_an_unexpected_error_is_a_500_problem_that_gives_nothing_away(
    checkout: Service, oncall: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(audit, "record", broken)

    response = oncall.post(OVERRIDES, {"patch": shed(1), "reason": "x"})

    assert (response.status_code, response.json()["code"]) == (500, "internal-error")
    assert "secret" not in response.content.decode()
    assert AuditEntry.objects.filter(action="override.opened").count() == 0

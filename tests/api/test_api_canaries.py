from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.kernel.clock import utc_now
from controlplane.policies.models import Canary
from controlplane.registry.models import Service
from tests.api.client import ApiClient
from tests.policies.builders import (
    backoff,
    deadline,
    newest,
    newest_canary,
    publish_on,
    shed,
    start_on,
    stored_state,
)

CANARY = "/services/checkout/canary"
VERSIONS = "/services/checkout/versions"
START: dict[str, Any] = {"document": shed(1), "ratio": 0.1, "reason": "on a few first"}


def refused_fields(problem: dict[str, Any]) -> list[str]:
    return [each["path"] for each in problem.get("problems", ())] or [problem["field"]]


def test_a_canary_is_started_read_widened_and_promoted(
    checkout: Service, oncall: ApiClient
) -> None:
    started = oncall.post(CANARY, {**START, "lasts_s": 600})

    body = started.json()
    canary = Canary.objects.get()
    assert (started.status_code, body["ratio"]) == (201, 0.1)
    assert body["sequence"] == newest_canary().sequence
    assert canary.ends_at - canary.started_at == timedelta(seconds=600)
    read = oncall.get(started.headers["Location"].split("/api/v1", 1)[1])
    assert read.json()["canary"] == body
    assert read.headers["ETag"] == started.headers["ETag"] == f'"c{canary.pk}-0.1"'

    wider = oncall.patch(CANARY, {"ratio": 0.5, "reason": "calm"})
    assert (wider.status_code, wider.json()["ratio"]) == (200, 0.5)
    assert wider.headers["ETag"] == f'"c{canary.pk}-0.5"'
    promoted = oncall.post(f"{CANARY}/promote", {"reason": "it held"})
    assert (promoted.status_code, promoted.json()["number"]) == (201, 1)
    assert promoted.headers["ETag"] == '"v1"'
    location = promoted.headers["Location"].split("/api/v1", 1)[1]
    assert oncall.get(location).json()["document"] == shed(1)
    after = oncall.get(CANARY)
    assert (after.json(), after.headers["ETag"]) == ({"canary": None}, '"c0"')


def test_a_canary_is_ended_once(checkout: Service, oncall: ApiClient) -> None:
    oncall.post(CANARY, START)

    ended = oncall.post(f"{CANARY}/end", {"reason": "it burnt"})

    body = ended.json()
    assert (ended.status_code, body["outcome"]) == (200, "ended")
    assert body["closed_by"] == "oncall/test"
    assert ended.headers["ETag"] == '"c0"'
    again = oncall.post(f"{CANARY}/end", {"reason": "it burnt"})
    assert (again.status_code, again.json()["detail"]) == (404, "checkout has no canary in force")


def test_a_canary_lasts_an_hour_unless_its_author_says_otherwise(
    checkout: Service, oncall: ApiClient
) -> None:
    oncall.post(CANARY, START)

    canary = Canary.objects.get()
    assert canary.ends_at - canary.started_at == timedelta(hours=1)


def test_if_match_protects_a_canary_against_lost_updates(
    checkout: Service, oncall: ApiClient
) -> None:
    def start(if_match: str) -> int:
        return oncall.post(CANARY, START, If_Match=if_match).status_code

    publish_on(checkout, utc_now(), deadline(2000))
    assert start('"v0"') == 412
    assert start('"v1"') == 201
    seen = oncall.get(CANARY).headers["ETag"]
    assert oncall.patch(CANARY, {"ratio": 0.2, "reason": "x"}, If_Match=seen).status_code == 200

    late = [
        oncall.patch(CANARY, {"ratio": 0.5, "reason": "x"}, If_Match=seen),
        oncall.post(f"{CANARY}/promote", {"reason": "x"}, If_Match=seen),
        oncall.post(f"{CANARY}/end", {"reason": "x"}, If_Match=seen),
    ]
    assert [answer.status_code for answer in late] == [412, 412, 412]
    assert late[0].json()["code"] == "precondition-failed"
    now = oncall.get(CANARY).headers["ETag"]
    assert oncall.post(f"{CANARY}/end", {"reason": "x"}, If_Match=now).status_code == 200


def test_a_repeated_request_acts_once(checkout: Service, oncall: ApiClient) -> None:
    first = oncall.post(CANARY, START, Idempotency_Key="start-1")
    again = oncall.post(CANARY, START, Idempotency_Key="start-1")
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Location"] == first.headers["Location"]

    wider = {"ratio": 0.5, "reason": "calm"}
    for _ in range(2):
        assert oncall.patch(CANARY, wider, Idempotency_Key="widen-1").status_code == 200
    for _ in range(2):
        promoted = oncall.post(
            f"{CANARY}/promote", {"reason": "it held"}, Idempotency_Key="promote-1"
        )
        assert promoted.json()["number"] == 1
    assert newest().version_number == 1


def test_publishing_past_a_canary_is_a_conflict_that_says_what_to_do(
    checkout: Service, oncall: ApiClient
) -> None:
    oncall.post(CANARY, START)

    version = oncall.post(VERSIONS, {"document": {}, "reason": "x"})
    second = oncall.post(CANARY, START)

    assert (version.status_code, version.json()["code"]) == (409, "conflict")
    assert version.json()["detail"].endswith("promote it or end it first, then publish")
    assert (second.status_code, second.json()["code"]) == (409, "conflict")


BAD_STARTS: dict[str, tuple[dict[str, Any], str]] = {
    "no document": ({"ratio": 0.1, "reason": "x"}, "document"),
    "no ratio": ({"document": {}, "reason": "x"}, "ratio"),
    "no reason": ({"document": {}, "ratio": 0.1}, "reason"),
    "ratio in percent": ({**START, "ratio": "10%"}, "ratio"),
    "ratio boolean": ({**START, "ratio": True}, "ratio"),
    "ratio null": ({**START, "ratio": None}, "ratio"),
    "ratio zero": ({**START, "ratio": 0}, "ratio"),
    "ratio over one": ({**START, "ratio": 10}, "ratio"),
    "ratio huge": ({**START, "ratio": 10**60}, "ratio"),
    "too long": ({**START, "lasts_s": 86_401}, "lasts_s"),
    "unknown field": ({**START, "percent": 10}, "percent"),
    "bad document": ({**START, "document": shed(9)}, "inbound.shedding.level"),
    "contradiction": (
        {**START, "document": backoff(base_ms=9000, max_ms=100)},
        "outbound.defaults.retry.backoff.base_ms",
    ),
}


@pytest.mark.parametrize(("body", "field"), BAD_STARTS.values(), ids=BAD_STARTS.keys())
def test_a_bad_start_is_refused_by_field_and_nothing_stored(
    checkout: Service, oncall: ApiClient, body: dict[str, Any], field: str
) -> None:
    before = stored_state()

    answer = oncall.post(CANARY, body)

    assert answer.status_code == 422
    assert field in refused_fields(answer.json())
    assert stored_state() == before


@pytest.mark.parametrize("ratio", [0.1, 0.05, 2, "0.5", None])
def test_a_bad_ratio_to_widen_to_is_refused(
    checkout: Service, oncall: ApiClient, ratio: object
) -> None:
    start_on(checkout, utc_now(), ratio=0.1)

    answer = oncall.patch(CANARY, {"ratio": ratio, "reason": "x"})

    assert answer.status_code == 422
    assert refused_fields(answer.json()) == ["ratio"]


def test_a_viewer_may_look_and_nothing_else(checkout: Service, viewer: ApiClient) -> None:
    start_on(checkout, utc_now())
    before = stored_state()

    refused = [
        viewer.post(CANARY, START),
        viewer.patch(CANARY, {"ratio": 0.5, "reason": "x"}),
        viewer.post(f"{CANARY}/promote", {"reason": "x"}),
        viewer.post(f"{CANARY}/end", {"reason": "x"}),
    ]

    assert [answer.status_code for answer in refused] == [403] * 4
    assert viewer.get(CANARY).status_code == 200
    assert stored_state() == before


def test_a_canary_of_a_service_that_does_not_exist_is_not_found(
    checkout: Service, oncall: ApiClient
) -> None:
    assert oncall.get("/services/nope/canary").status_code == 404
    assert oncall.post("/services/nope/canary", START).status_code == 404
    assert oncall.patch(CANARY, {"ratio": 0.5, "reason": "x"}).status_code == 404

"""OFREP over the hot path: evaluations, conditions, cohorts, and what is refused and how."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

from controlplane.delivery.domain.cohorts import position
from controlplane.delivery.domain.compile import compile_snapshot
from controlplane.delivery.domain.snapshot import CANARY
from controlplane.delivery.hotpath.auth import RateLimit
from controlplane.delivery.hotpath.ofrep import CONFIGURATION, FLAGS, OfrepAdapter
from controlplane.delivery.hotpath.problems import Answer
from tests.delivery.adapters import World, body_of, features, header, request, world
from tests.delivery.builders import NEWCOMER_TOKEN, published, snapshot
from tests.delivery.ofrep_protocol import (
    BULK_FAILURE,
    BULK_SUCCESS,
    FAILURE,
    NOT_FOUND,
    SUCCESS,
    check,
)

SEARCH = {"search": {"off_at_level": 1}}


def evaluate(here: World, key: str | None = "search", context: Any = None, **fields: Any) -> Answer:
    """Ask for one flag, or for all of them when `key` is None."""
    path = FLAGS if key is None else f"{FLAGS}/{key}"
    body = json.dumps({} if context is None else {"context": context}).encode()
    fields.setdefault("headers", {})
    return OfrepAdapter(here.gate, here.reports).answer(
        request(path, **{"method": "POST", "body": body, **fields})
    )


def canary(sequence: int, level: int, *, ratio: float) -> Any:
    policy = features(level, **SEARCH)
    publication = replace(
        published(sequence, policy=policy), cohort=CANARY, ratio=ratio, salt="salt"
    )
    return compile_snapshot(publication)


def test_one_flag_is_evaluated_by_the_policy_in_force() -> None:
    here = world(features(1, **SEARCH))

    answer = evaluate(here, context={"targetingKey": "user-7"})

    assert answer.status == 200
    assert header(answer, "content-type") == "application/json"
    found = body_of(answer)
    assert (found["key"], found["value"], found["reason"]) == ("search", False, "TARGETING_MATCH")
    assert found["metadata"]["sequence"] == 7
    assert found["metadata"]["version"] == 3
    check(found, SUCCESS)


def test_the_value_follows_the_shed_level() -> None:
    here = world(features(0, **SEARCH))
    before = body_of(evaluate(here))

    here.publish(snapshot(8, policy=features(1, **SEARCH)))
    after = body_of(evaluate(here))

    assert (before["value"], after["value"]) == (True, False)
    assert after["metadata"]["sequence"] == 8


def test_a_scheduled_end_of_an_override_takes_over_by_the_clock() -> None:
    here = world()
    later = [(60.0, features(0, **SEARCH))]
    here.publish(snapshot(8, policy=features(2, **SEARCH), scheduled=later))
    first = evaluate(here, None)

    here.clock.pass_s(60)

    assert body_of(evaluate(here))["value"] is True
    second = evaluate(here, None, headers={"if-none-match": header(first, "etag") or ""})
    assert second.status == 200


def test_all_flags_come_with_a_tag_and_the_tag_again_gets_304() -> None:
    here = world(features(0, **SEARCH))

    first = evaluate(here, None)
    tag = header(first, "etag")
    assert tag is not None
    again = evaluate(here, None, headers={"if-none-match": f'"other", W/{tag}'})

    assert first.status == 200
    check(body_of(first), BULK_SUCCESS)
    assert (again.status, again.body, header(again, "etag")) == (304, b"", tag)


def test_another_publication_has_another_tag() -> None:
    here = world(features(0, **SEARCH))
    tag = header(evaluate(here, None), "etag") or ""

    here.publish(snapshot(8, policy=features(1, **SEARCH)))
    answer = evaluate(here, None, headers={"if-none-match": tag})

    assert answer.status == 200
    assert header(answer, "etag") != tag
    assert body_of(answer)["flags"][0]["value"] is False


@pytest.mark.parametrize("how", ["header", "context"])
def test_the_instance_decides_the_cohort(how: str) -> None:
    here = world(features(0, **SEARCH))
    here.publish(canary(8, 1, ratio=0.5))
    names = [f"pod-{number}" for number in range(20)]
    reached = {name for name in names if position("salt", name) < 0.5}

    def is_on(name: str) -> bool:
        if how == "header":
            return bool(body_of(evaluate(here, headers={"tidegate-instance": name}))["value"])
        return bool(body_of(evaluate(here, context={"tidegateInstance": name}))["value"])

    assert 0 < len(reached) < 20
    assert {name for name in names if not is_on(name)} == reached
    flag = body_of(evaluate(here, context={"tidegateInstance": min(reached)}))
    assert flag["metadata"]["cohort"] == "canary"


def test_cohorts_have_tags_of_their_own() -> None:
    here = world(features(0, **SEARCH))
    here.publish(canary(8, 1, ratio=1.0))

    stable = evaluate(here, None)
    reached = evaluate(
        here,
        None,
        headers={"tidegate-instance": "a", "if-none-match": header(stable, "etag") or ""},
    )

    assert reached.status == 200
    assert body_of(reached)["flags"][0]["value"] is False
    assert header(evaluate(here, None), "etag") == header(stable, "etag")


def test_the_targeting_key_changes_nothing() -> None:
    here = world(features(0, **SEARCH))
    here.publish(canary(8, 1, ratio=0.5))

    values = {
        body_of(evaluate(here, context={"targetingKey": f"user-{number}"}))["value"]
        for number in range(50)
    }

    assert values == {True}


@pytest.mark.parametrize(
    "context",
    [
        {"user": {"plan": {"name": "gold", "limits": [1, 2, {"deep": None}]}}},
        {"targetingKey": "", "ö": "ü", "n": 1e300},
        {},
    ],
    ids=["nested", "odd but valid", "empty"],
)
def test_a_context_of_any_shape_is_accepted(context: dict[str, Any]) -> None:
    assert evaluate(world(features(0, **SEARCH)), context=context).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"body": b""},
        {"body": b" \n"},
        {"body": b"{}", "headers": {"content-type": "application/json; charset=utf-8"}},
        {"body": b"{}", "headers": {"content-type": "Application/JSON"}},
        {"body": gzip.compress(b"{}"), "headers": {"content-encoding": "gzip"}},
        {"body": b'{"context": {}, "sdk": "of a later version"}'},
    ],
    ids=["none", "white space", "with a charset", "in capitals", "gzip", "with more in it"],
)
def test_a_body_that_says_nothing_is_accepted(fields: dict[str, Any]) -> None:
    assert evaluate(world(features(0, **SEARCH)), **fields).status == 200


@pytest.mark.parametrize(
    ("fields", "code", "details"),
    [
        ({"body": b"{"}, "PARSE_ERROR", "the body is no JSON"),
        ({"body": b"\xff"}, "PARSE_ERROR", "the body is no JSON"),
        ({"body": b'{"context": NaN}'}, "PARSE_ERROR", "the body is no JSON"),
        ({"body": b"[" * 5_000}, "PARSE_ERROR", "the body is no JSON"),
        ({"body": b"[]"}, "PARSE_ERROR", "the body: expected an object with a context"),
        ({"body": b"null"}, "PARSE_ERROR", "the body: expected an object with a context"),
        ({"body": b'{"context": []}'}, "INVALID_CONTEXT", "context: expected an object"),
        ({"body": b'{"context": null}'}, "INVALID_CONTEXT", "context: expected an object"),
        (
            {"body": b'{"context": {"targetingKey": 7}}'},
            "INVALID_CONTEXT",
            "context.targetingKey: expected text",
        ),
        (
            {"body": b'{"context": {"tidegateInstance": 7}}'},
            "INVALID_CONTEXT",
            "context.tidegateInstance: expected text",
        ),
        (
            {"body": b'{"context": {"tidegateInstance": "pod 1"}}'},
            "INVALID_CONTEXT",
            "expected 1 to 128 of",
        ),
        (
            {
                "body": b'{"context": {"tidegateInstance": "pod-1"}}',
                "headers": {"tidegate-instance": "pod-2"},
            },
            "INVALID_CONTEXT",
            "context.tidegateInstance: is not the instance that Tidegate-Instance names",
        ),
        (
            {"headers": {"content-type": "text/plain"}},
            "PARSE_ERROR",
            "Content-Type: expected application/json, not 'text/plain'",
        ),
        (
            {"headers": {"content-type": "application/x-www-form-urlencoded"}},
            "PARSE_ERROR",
            "Content-Type: expected application/json",
        ),
        (
            {"body": b"no gzip", "headers": {"content-encoding": "gzip"}},
            "PARSE_ERROR",
            "the body is no valid gzip",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_read_is_a_400_that_says_why(
    fields: dict[str, Any], code: str, details: str
) -> None:
    here = world(features(0, **SEARCH))

    one, bulk = evaluate(here, **fields), evaluate(here, None, **fields)

    for answer, schema in ((one, FAILURE), (bulk, BULK_FAILURE)):
        assert answer.status == 400
        said = body_of(answer)
        assert said["errorCode"] == code
        assert details in said["errorDetails"]
        check(said, schema)


def test_a_body_that_unpacks_to_too_much_is_refused() -> None:
    bomb = gzip.compress(b" " * 70_000)

    answer = evaluate(world(), body=bomb, headers={"content-encoding": "gzip"})

    assert answer.status == 413
    assert body_of(answer)["errorCode"] == "GENERAL"


@pytest.mark.parametrize("key", ["serach", "search/x", "tidegate:what", "", "ö" * 300, "\ud800"])
def test_an_unknown_flag_is_a_404_that_names_it(key: str) -> None:
    answer = evaluate(world(features(0, **SEARCH)), key)

    assert answer.status == 404
    said = body_of(answer)
    check(said, NOT_FOUND)
    assert "the policy of checkout in prod has no " in said["errorDetails"]
    assert len(answer.body) < 1_000


def test_a_service_without_any_policy_has_no_flags() -> None:
    here = World()
    here.store.is_loaded = True

    answer = evaluate(here)

    assert (answer.status, body_of(answer)["errorCode"]) == (404, "FLAG_NOT_FOUND")


@pytest.mark.parametrize("key", ["search", None])
def test_a_policy_that_was_damaged_by_hand_is_an_error_of_ours(key: str | None) -> None:
    answer = evaluate(world({"inbound": {"features": {"search": {}}}}), key)

    assert answer.status == 500
    assert body_of(answer)["errorCode"] == "GENERAL"
    assert "the policy in force is not complete" in body_of(answer)["errorDetails"]


@pytest.mark.parametrize(
    ("token", "challenge"),
    [(None, 'Bearer realm="tidegate"'), ("tgs_" + "x" * 43, 'error="invalid_token"')],
    ids=["none", "unknown"],
)
def test_a_request_without_a_valid_token_is_a_401(token: str | None, challenge: str) -> None:
    answer = evaluate(world(), token=token)

    assert answer.status == 401
    assert challenge in (header(answer, "www-authenticate") or "")


def test_a_revoked_token_is_a_401() -> None:
    here = world()
    here.tokens.replace([])

    assert evaluate(here).status == 401


def test_the_token_may_come_as_an_api_key() -> None:
    here = world(features(0, **SEARCH))
    key = {"x-api-key": "tgs_" + "c" * 43}

    assert evaluate(here, token=None, headers=key).status == 200
    assert evaluate(here, token=None, headers={"x-api-key": "tgs_no"}).status == 401


def test_the_token_says_whose_flags_they_are() -> None:
    here = world(features(0, **SEARCH))
    here.publish(snapshot(9, service="newcomer", policy=features(0, ads={})))

    answer = evaluate(here, None, token=NEWCOMER_TOKEN)

    assert body_of(answer)["flags"][0]["key"] == "ads"


def test_too_many_requests_get_429_and_a_time_to_come_back() -> None:
    here = world(features(0, **SEARCH), limit=RateLimit(per_s=1.0, burst=2))

    statuses = [evaluate(here).status for _ in range(5)]
    refused = evaluate(here)

    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert 1 <= int(header(refused, "retry-after") or 0) <= 10
    assert body_of(refused)["errorCode"] == "GENERAL"


def test_nothing_is_evaluated_before_policies_are_loaded() -> None:
    answer = evaluate(World())

    assert answer.status == 503
    assert header(answer, "retry-after") is not None


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", FLAGS, 405, "POST"),
        ("PUT", f"{FLAGS}/search", 405, "POST"),
        ("HEAD", FLAGS, 405, "POST"),
        ("POST", CONFIGURATION, 405, "GET, HEAD"),
        ("POST", "/ofrep/v1/evaluate", 404, None),
        ("POST", "/ofrep/v1/", 404, None),
    ],
)
def test_other_methods_and_addresses_are_refused(
    method: str, path: str, status: int, allow: str | None
) -> None:
    here = world()

    answer = OfrepAdapter(here.gate, here.reports).answer(request(path, method=method))

    assert (answer.status, header(answer, "allow")) == (status, allow)
    assert body_of(answer)["errorCode"] == "GENERAL"


def test_a_repeated_header_is_refused_in_the_words_of_the_protocol() -> None:
    here = world()
    asked = request(FLAGS, method="POST", body=b"{}")
    asked.headers = [*asked.headers, (b"tidegate-instance", b"a"), (b"tidegate-instance", b"b")]

    answer = OfrepAdapter(here.gate, here.reports).answer(asked)

    assert answer.status == 400
    assert body_of(answer) == {
        "errorCode": "GENERAL", "errorDetails": "Tidegate-Instance appears more than once",
    }  # fmt: skip


def test_answers_tell_their_age_while_the_database_is_away() -> None:
    here = world(features(0, **SEARCH))
    here.store.behind_since_unix = here.clock() - 12.0

    for answer in (evaluate(here), evaluate(here, None)):
        assert (answer.status, header(answer, "age")) == (200, "12")
        assert header(answer, "warning") == '110 tidegate "Response is Stale"'


def test_older_providers_are_told_how_to_poll() -> None:
    here = world()
    adapter = OfrepAdapter(here.gate, here.reports)

    first = adapter.answer(request(CONFIGURATION))
    again = adapter.answer(
        request(CONFIGURATION, headers={"if-none-match": header(first, "etag") or ""})
    )

    assert body_of(first)["capabilities"]["cacheInvalidation"]["polling"] == {
        "enabled": True, "minPollingIntervalMs": 1000,
    }  # fmt: skip
    assert again.status == 304
    assert adapter.answer(request(CONFIGURATION, token=None)).status == 401


def marks(here: World) -> list[tuple[str, str, str]]:
    """What is to be written about instances: who, what about which etag."""
    return [
        (note.instance_id, mark.outcome, mark.etag)
        for note in here.reports.take()
        for mark in note.marks
    ]


def test_an_instance_that_evaluates_applies_that_policy() -> None:
    here = world(features(0, **SEARCH))

    evaluate(here, headers={"tidegate-instance": "pod-1", "user-agent": "python-requests/2"})

    assert marks(here) == [("pod-1", "applied", "7-0-9f3c")]


def test_an_instance_that_polls_all_flags_applies_them_once_it_knows_their_tag() -> None:
    here = world(features(0, **SEARCH))
    named = {"tidegate-instance": "pod-1"}
    first = evaluate(here, None, headers=named)
    (fetched,) = here.reports.take()

    evaluate(here, None, headers={**named, "if-none-match": header(first, "etag") or ""})

    assert fetched.fetched_at_unix is not None
    assert [mark.outcome for mark in fetched.marks] == ["fetched"]
    assert marks(here) == [("pod-1", "applied", "7-0-9f3c")]


def test_an_evaluation_without_an_instance_reports_nobody() -> None:
    here = world(features(0, **SEARCH))

    evaluate(here, context={"targetingKey": "user-7"})

    assert len(here.reports) == 0

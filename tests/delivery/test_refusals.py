"""Every error answer of the config API, as RFC 9457 problem documents."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.delivery.hotpath.auth import RateLimit
from tests.delivery.builders import (
    CHECKOUT,
    CHECKOUT_TOKEN,
    NEWCOMER_TOKEN,
    Clock,
    ask,
    make_plane,
    snapshot,
    token_record,
)


@pytest.mark.parametrize(
    ("request_", "status", "code", "detail"),
    [
        ({"token": None}, 401, "unauthorized", "a service token is needed"),
        ({"token": "tgs_unknown"}, 401, "invalid-token", "unknown or revoked"),
        ({"token": "x" * 300}, 401, "unauthorized", "expected Authorization: Bearer"),
        ({"token": ""}, 401, "unauthorized", "expected Authorization: Bearer"),
        (
            {"token": None, "headers": {"Authorization": "Basic abc"}},
            401, "unauthorized", "expected Authorization: Bearer",
        ),
        ({"token": NEWCOMER_TOKEN}, 403, "wrong-scope", "for newcomer in prod only"),
        ({"path": "/config/v1/mars/checkout"}, 404, "unknown-environment", "named mars"),
        ({"path": "/config/v1/prod"}, 404, "not-found", "/config/v1/{environment}/{service}"),
        ({"path": "/config/v2/prod/checkout"}, 404, "not-found", "/config/v1/{environment}"),
        ({"path": "/config/v1/prod/che%ckout"}, 404, "not-found", "/config/v1/{environment}"),
        (
            {"path": "/config/v1/prod/newcomer", "token": NEWCOMER_TOKEN},
            404, "not-published", "prod has no fleet default yet",
        ),
        ({"method": "POST"}, 405, "method-not-allowed", "POST is not for this address; use GET"),
        ({"headers": {"Accept": "text/html"}}, 406, "not-acceptable", "application/json and"),
        ({"path": CHECKOUT + "x" * 600}, 414, "uri-too-long", "at most 512 bytes"),
        ({"query": "x" * 600}, 414, "uri-too-long", "at most 512 bytes"),
        (
            {"headers": [(f"x-{number}", "1") for number in range(64)]},
            431, "headers-too-large", "at most 64",
        ),
        ({"headers": {"x-big": "x" * 20_000}}, 431, "headers-too-large", "16384 bytes"),
        ({"headers": {"If-None-Match": "7-0-9f3c"}}, 400, "bad-header", "If-None-Match: expected"),
        (
            {"headers": {"Tidegate-Instance": "a b"}},
            400, "bad-header", "Tidegate-Instance: expected 1 to 128",
        ),
        (
            {"headers": {"Tidegate-Instance": "x" * 129}},
            400, "bad-header", "Tidegate-Instance: expected 1 to 128",
        ),
        (
            {"headers": {"Tidegate-Applied": '"7-0-9f3c"'}},
            400, "bad-header", "Tidegate-Instance: is missing",
        ),
        (
            {"headers": {"Tidegate-Instance": "a", "Tidegate-Applied": "7-0-9f3c"}},
            400, "bad-header", "Tidegate-Applied: expected one quoted entity tag",
        ),
        (
            {"headers": {"Tidegate-Instance": "a", "Tidegate-Rejected": '"a"; why="x"'}},
            400, "bad-header", "Tidegate-Rejected: expected",
        ),
        (
            {"headers": [("Tidegate-Instance", "a"), ("Tidegate-Instance", "b")]},
            400, "repeated-header", "Tidegate-Instance appears more than once",
        ),
    ],
)  # fmt: skip
async def test_a_bad_request_gets_a_problem_that_says_what_would_be_right(
    request_: dict[str, Any], status: int, code: str, detail: str
) -> None:
    reply = await ask(make_plane(), **request_)

    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json["status"] == status
    assert reply.json["code"] == code
    assert reply.json["title"]
    assert detail in reply.json["detail"]


async def test_a_401_carries_the_challenge() -> None:
    plane = make_plane()

    absent, wrong = await ask(plane, token=None), await ask(plane, token="tgs_wrong")

    assert absent.headers["www-authenticate"] == 'Bearer realm="tidegate"'
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]


async def test_a_405_names_the_methods() -> None:
    assert (await ask(make_plane(), method="DELETE")).headers["allow"] == "GET, HEAD"


async def test_a_head_request_that_is_refused_gets_no_body() -> None:
    reply = await ask(make_plane(), method="HEAD", token=None)

    assert (reply.status, reply.body) == (401, b"")


async def test_a_token_stops_working_the_moment_it_expires() -> None:
    clock = Clock()
    plane = make_plane(clock=clock)
    plane.tokens.replace([token_record(CHECKOUT_TOKEN, "checkout", expires_at_unix=clock() + 60)])
    headers = {"If-None-Match": '"7-0-9f3c"'}

    before = await ask(plane, headers=headers)
    clock.pass_s(60)
    after = await ask(plane, headers=headers)

    assert (before.status, after.status) == (304, 401)
    assert after.json["detail"] == "the token has expired"


async def test_a_revoked_token_stops_working_when_the_table_is_replaced() -> None:
    plane = make_plane()
    headers = {"If-None-Match": '"7-0-9f3c"'}
    before = await ask(plane, headers=headers)

    plane.tokens.replace([token_record(NEWCOMER_TOKEN, "newcomer")])

    assert (before.status, (await ask(plane, headers=headers)).status) == (304, 401)


async def test_a_token_of_another_environment_is_refused() -> None:
    plane = make_plane(snapshot(7), snapshot(8, environment="staging"))

    assert (await ask(plane, "/config/v1/staging/checkout")).status == 403


async def test_nothing_is_answered_before_snapshots_are_loaded() -> None:
    plane = make_plane()
    plane.store.is_loaded = False

    reply = await ask(plane)

    assert (reply.status, reply.json["code"]) == (503, "not-loaded")
    assert 1 <= int(reply.headers["retry-after"]) <= 3
    assert plane.config.is_ready is False


async def test_one_token_that_asks_too_often_is_told_when_to_come_back() -> None:
    clock = Clock()
    plane = make_plane(snapshot(7), snapshot(4, service=""), clock=clock, limit=RateLimit(1.0, 3))
    headers = {"If-None-Match": '"7-0-9f3c"'}
    statuses = [(await ask(plane, headers=headers)).status for _ in range(5)]

    refused = await ask(plane, headers=headers)
    other = await ask(plane, "/config/v1/prod/newcomer", token=NEWCOMER_TOKEN)
    clock.pass_s(int(refused.headers["retry-after"]))
    again = await ask(plane, headers=headers)

    assert statuses == [304, 304, 304, 304, 429]
    assert (refused.status, refused.json["code"]) == (429, "too-many-requests")
    assert (other.status, again.status) == (200, 304)


async def test_less_than_one_request_a_second_is_a_limit_too() -> None:
    plane = make_plane(limit=RateLimit(per_s=0.01, burst=1))

    statuses = [(await ask(plane)).status for _ in range(4)]

    assert statuses == [200, 200, 429, 429]


async def test_a_clock_that_is_set_back_locks_no_token_out() -> None:
    clock = Clock()
    plane = make_plane(clock=clock, limit=RateLimit(1.0, 3))
    await ask(plane)
    clock.pass_s(-3600)

    assert (await ask(plane)).status == 200


async def test_a_token_that_stays_keeps_what_it_spent_when_the_table_is_replaced() -> None:
    plane = make_plane(limit=RateLimit(1.0, 0))
    first = await ask(plane)
    plane.tokens.replace([token_record(CHECKOUT_TOKEN, "checkout")])

    assert (first.status, (await ask(plane)).status) == (200, 429)

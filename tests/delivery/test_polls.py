"""Polls that get a policy, or hear that theirs is still in force."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.delivery.hotpath.auth import RateLimit
from tests.delivery.builders import (
    CHECKOUT,
    NEWCOMER_TOKEN,
    NOBODY,
    Clock,
    ask,
    make_plane,
    request_scope,
    respond,
    snapshot,
)

AFTER = {"inbound": {"deadline_ms": 1000}}


async def test_a_first_poll_gets_the_policy_with_its_etag_and_sequence() -> None:
    plane = make_plane()

    reply = await ask(plane)

    assert reply.status == 200
    assert reply.json["policy"] == {"inbound": {"deadline_ms": 3000}}
    assert reply.headers == {
        "content-type": "application/json",
        "content-length": str(len(reply.body)),
        "etag": '"7-0-9f3c"',
        "tidegate-sequence": "7",
        "cache-control": "no-store",
        "vary": "Authorization, Accept, Accept-Encoding, Prefer",
    }


@pytest.mark.parametrize(
    "condition",
    ['"7-0-9f3c"', 'W/"7-0-9f3c"', '"old", W/"7-0-9f3c"', "*", ' "7-0-9f3c" '],
)
async def test_a_poll_that_names_the_etag_in_force_gets_304(condition: str) -> None:
    reply = await ask(make_plane(), headers={"If-None-Match": condition})

    assert (reply.status, reply.body) == (304, b"")
    assert reply.headers["etag"] == '"7-0-9f3c"'
    assert "content-length" not in reply.headers


@pytest.mark.parametrize("condition", ['"6-0-9f3c"', '"7-0-9F3C"', '"a", "b"', '""'])
async def test_a_poll_that_names_other_etags_gets_the_policy(condition: str) -> None:
    assert (await ask(make_plane(), headers={"If-None-Match": condition})).status == 200


async def test_several_if_none_match_headers_are_one_list() -> None:
    headers = [("If-None-Match", '"old"'), ("If-None-Match", '"7-0-9f3c"')]

    assert (await ask(make_plane(), headers=headers)).status == 304


async def test_head_answers_as_get_without_the_body() -> None:
    plane = make_plane()

    head, get = await ask(plane, method="HEAD"), await ask(plane)

    assert (head.status, head.headers, head.body) == (200, get.headers, b"")


async def test_a_scheduled_step_takes_over_by_the_clock_and_keeps_the_sequence() -> None:
    clock = Clock()
    plane = make_plane(snapshot(7, scheduled=[(60, AFTER)]), clock=clock)
    clock.pass_s(60)

    reply = await ask(plane, headers={"If-None-Match": '"7-0-9f3c"'})

    assert reply.status == 200
    assert reply.headers["etag"] == '"7-1-9f3c"'
    assert reply.headers["tidegate-sequence"] == "7"
    assert reply.json["policy"] == AFTER


async def test_a_client_that_switched_by_itself_gets_304() -> None:
    clock = Clock()
    plane = make_plane(snapshot(7, scheduled=[(60, AFTER)]), clock=clock)
    headers = {"If-None-Match": '"7-1-9f3c"'}

    clock.pass_s(57)  # its clock is 3 s ahead of ours
    early = await ask(plane, headers=headers)
    clock.pass_s(3)
    after = await ask(plane, headers=headers)

    assert (early.status, after.status) == (304, 304)


async def test_a_clock_that_is_set_back_does_not_bring_an_ended_override_back() -> None:
    clock = Clock()
    plane = make_plane(snapshot(7, scheduled=[(60, AFTER)]), clock=clock)
    clock.pass_s(61)
    await ask(plane)
    clock.pass_s(-30)

    assert (await ask(plane)).headers["etag"] == '"7-1-9f3c"'


async def test_a_lower_or_equal_sequence_is_ignored() -> None:
    plane = make_plane(snapshot(7))

    assert plane.store.swap(snapshot(6, policy=AFTER)) is False
    assert plane.store.swap(snapshot(7, policy=AFTER)) is False

    assert (await ask(plane)).headers["tidegate-sequence"] == "7"


async def test_a_higher_sequence_is_served_at_once() -> None:
    plane = make_plane(snapshot(7))

    assert plane.store.swap(snapshot(9, policy=AFTER)) is True

    reply = await ask(plane, headers={"If-None-Match": '"7-0-9f3c"'})
    assert (reply.status, reply.headers["tidegate-sequence"]) == (200, "9")


async def test_an_unregistered_service_gets_the_fleet_default() -> None:
    plane = make_plane(snapshot(7), snapshot(4, service=""))

    reply = await ask(plane, "/config/v1/prod/newcomer", token=NEWCOMER_TOKEN)

    assert (reply.status, reply.json["service"]) == (200, "newcomer")
    assert reply.headers["tidegate-sequence"] == "4"


async def test_a_new_fleet_default_reaches_unregistered_services_only() -> None:
    plane = make_plane(snapshot(7), snapshot(4, service=""))
    await ask(plane, "/config/v1/prod/newcomer", token=NEWCOMER_TOKEN)

    plane.store.swap(snapshot(8, service="", policy=AFTER))

    newcomer = await ask(plane, "/config/v1/prod/newcomer", token=NEWCOMER_TOKEN)
    assert newcomer.headers["tidegate-sequence"] == "8"
    assert (await ask(plane)).headers["tidegate-sequence"] == "7"


async def test_a_service_that_gets_registered_leaves_the_fleet_default() -> None:
    plane = make_plane(snapshot(4, service=""))
    await ask(plane, "/config/v1/prod/newcomer", token=NEWCOMER_TOKEN)

    plane.store.swap(snapshot(9, service="newcomer", policy=AFTER))
    plane.store.swap(snapshot(10, service=""))

    newcomer = await ask(plane, "/config/v1/prod/newcomer", token=NEWCOMER_TOKEN)
    assert newcomer.headers["tidegate-sequence"] == "9"


async def test_answers_say_their_age_while_the_database_does_not_confirm_them() -> None:
    plane = make_plane()
    plane.store.behind_since_unix = plane.clock() - 12.7
    headers = {"If-None-Match": '"7-0-9f3c"'}

    stale = await ask(plane, headers=headers)
    plane.store.behind_since_unix = None
    fresh = await ask(plane, headers=headers)

    assert stale.status == 304
    assert stale.headers["age"] == "12"
    assert stale.headers["warning"] == '110 tidegate "Response is Stale"'
    assert "age" not in fresh.headers


async def test_answers_carry_the_date_where_no_server_adds_it() -> None:
    plane = make_plane(sends_date=True)

    assert (await ask(plane)).headers["date"] == "Mon, 02 Nov 2026 02:14:00 GMT"
    unchanged = await ask(plane, headers={"If-None-Match": '"7-0-9f3c"'})
    assert unchanged.headers["date"] == "Mon, 02 Nov 2026 02:14:00 GMT"


USUAL = {
    "Accept": "application/json",
    "If-None-Match": '"7-0-9f3c"',
    "Tidegate-Instance": "checkout-1",
    "Tidegate-Applied": '"7-0-9f3c"',
}


@pytest.mark.parametrize(
    "request_",
    [
        {"headers": USUAL},
        {"headers": {"If-None-Match": '"7-0-9f3c"'}},
        {"headers": {**USUAL, "If-None-Match": '"6-0-9f3c"'}},
        {"headers": {**USUAL, "Tidegate-Applied": '"6-0-9f3c"'}},
        {"headers": {**USUAL, "Tidegate-Applied": "6-0-9f3c"}},
        {"headers": {**USUAL, "Tidegate-Instance": "no spaces please"}},
        {"headers": {**USUAL, "Accept": "text/html"}},
        {"headers": [*USUAL.items(), ("Tidegate-Instance", "checkout-2")]},
        {"headers": USUAL, "token": None},
        {"headers": USUAL, "token": "tgs_wrong"},
        {"headers": USUAL, "token": NEWCOMER_TOKEN},
        {"headers": USUAL, "method": "HEAD"},
        {"headers": USUAL, "method": "POST"},
        {"headers": USUAL, "query": "x=" + "y" * 600},
        {"headers": USUAL, "path": CHECKOUT + "/"},
    ],
    ids=lambda request_: str(request_)[:60],
)
def test_the_short_way_to_a_304_answers_exactly_as_the_long_way(
    request_: dict[str, Any],
) -> None:
    plane = make_plane()
    respond(plane, headers=USUAL)  # notes the instance, so that the short way is open
    _, poll = respond(plane, **request_)
    if poll is None:
        return  # refused: there is no poll whose bytes could come again

    short = plane.config.unchanged(poll)
    long = plane.config.respond_again(poll, NOBODY)

    assert short is None or short is long


def test_the_usual_poll_takes_the_short_way() -> None:
    plane = make_plane()
    _, poll = respond(plane, headers=USUAL)
    assert poll is not None

    assert plane.config.unchanged(poll) is not None
    assert plane.config.unchanged_count == 1


@pytest.mark.parametrize(
    "change", ["revoked", "published", "due", "stale", "quota", "silence", "set back"]
)
def test_the_short_way_is_closed_when_anything_has_changed(change: str) -> None:
    clock = Clock()
    plane = make_plane(
        snapshot(7, scheduled=[(60, AFTER)]), clock=clock, limit=RateLimit(per_s=1, burst=2)
    )
    _, poll = respond(plane, headers=USUAL)
    assert poll is not None
    if change == "revoked":
        plane.tokens.replace([])
    elif change == "published":
        plane.store.swap(snapshot(8))
    elif change == "due":
        clock.pass_s(60)
    elif change == "stale":
        plane.store.behind_since_unix = clock()
    elif change == "quota":
        respond(plane, headers=USUAL)
        respond(plane, headers=USUAL)
    else:
        clock.pass_s({"silence": 5, "set back": -60}[change])

    assert plane.config.unchanged(poll) is None


async def test_what_is_written_into_one_answer_does_not_reach_the_next() -> None:
    plane = make_plane()
    await ask(plane, headers=USUAL)
    scope = request_scope(headers=USUAL)
    starts = []

    async def meddle(message: dict[str, object]) -> None:
        starts.append(dict(message))
        message["headers"] = [(b"x-request-id", b"1")]

    for _ in range(2):
        await plane.app(scope, meddle, meddle)  # type: ignore[arg-type]

    assert starts[0] == starts[2]

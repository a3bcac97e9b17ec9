from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.sdk.following import Follower, ok, publication, refuse_level_3, unchanged
from tidegate import SAFE_DEFAULTS


async def test_before_the_first_answer_the_safe_defaults_are_in_force() -> None:
    follower = Follower()

    assert follower.client.policy is SAFE_DEFAULTS
    assert follower.client.sequence is None
    assert follower.client.age_s is None
    assert follower.client.is_stale


async def test_a_poll_says_who_asks_and_what_it_enforces() -> None:
    follower = Follower()

    await follower.poll(ok(publication(7)))
    first = follower.asked
    assert follower.control_plane.urls == ["https://tidegate.example/config/v1/prod/checkout"]
    assert first["authorization"] == "Bearer tgs_secret"
    assert first["tidegate-instance"] == "checkout-1"
    assert "if-none-match" not in first
    assert "tidegate-applied" not in first
    assert "prefer" not in first

    await follower.poll(unchanged())
    assert follower.asked["if-none-match"] == '"7-0-aa"'
    assert follower.asked["tidegate-applied"] == '"7-0-aa"'
    assert follower.asked["prefer"] == "wait=30"


async def test_a_new_policy_is_applied_and_acknowledged_at_once() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7)))
    await follower.poll(unchanged())

    pause_s = await follower.poll(ok(publication(8, shed_level=2)))

    assert pause_s == 0.0
    assert follower.level == 2
    assert follower.levels == [0, 2]
    assert follower.client.sequence == 8
    await follower.poll(unchanged())
    assert follower.asked["tidegate-applied"] == '"8-0-aa"'


@pytest.mark.parametrize("etag", ['W/"7-0-aa"', '"7-0-aa"', 'W/ "7-0-aa"'])
async def test_an_etag_that_a_proxy_made_weak_is_the_same_etag(etag: str) -> None:
    follower = Follower()

    await follower.poll(ok(publication(7), etag=etag))
    await follower.poll(unchanged())

    assert follower.client.etag == "7-0-aa"
    assert follower.asked["if-none-match"] == '"7-0-aa"'


async def test_the_etag_advances_only_after_apply_and_store(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way of a directory")
    follower = Follower(blocked / "state")

    assert await follower.poll(ok(publication(7, shed_level=1))) == 0.0
    assert follower.level == 1
    assert follower.client.etag is None

    await follower.poll(ok(publication(7, shed_level=1)))
    assert follower.asked["tidegate-applied"] == '"7-0-aa"'
    assert "if-none-match" not in follower.asked

    blocked.unlink()
    await follower.poll(ok(publication(7, shed_level=1)))
    assert follower.client.etag == "7-0-aa"
    assert follower.levels == [1]


async def test_the_etag_is_not_advanced_while_the_policy_is_being_applied() -> None:
    follower = Follower()
    seen: list[str | None] = []
    follower.client.subscribe(lambda policy: seen.append(follower.client.etag))

    await follower.poll(ok(publication(7)))
    await follower.poll(ok(publication(8, shed_level=1)))

    assert seen == [None, "7-0-aa"]


def unusable(case: str) -> dict[str, object]:
    body = publication(8, shed_level=1)
    if case == "field":
        body["policy"]["inbound"]["rate"]["per_s"] = "many"
    elif case == "later step":
        later = publication(8, scheduled=[(2_000_000_000, 0)])["scheduled"]
        later[0]["policy"]["inbound"]["deadline_ms"] = -1
        body["scheduled"] = later
    elif case == "time":
        body["scheduled"] = [{"at": "noon", "etag": "x", "policy": body["policy"]}]
    elif case == "address":
        body["service"] = "payments"
    elif case == "schema":
        body["schema"] = "tidegate/v9"
    elif case == "sequence":
        body["sequence"] = "8"
    elif case == "huge sequence":
        body["sequence"] = 10**400  # no metric can show it
    return body


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("field", "policy.inbound.rate.per_s: expected a number, not text"),
        ("later step", "scheduled.0.policy.inbound.deadline_ms: -1 is outside"),
        ("time", "scheduled.0.at: expected an RFC 3339 time with its zone, not 'noon'"),
        ("address", "it is for prod/payments, not for prod/checkout"),
        ("schema", "schema: expected tidegate/v1, not 'tidegate/v9'"),
        ("sequence", "sequence: expected a whole number, not '8'"),
        ("huge sequence", "sequence: expected a whole number, not 1000"),
    ],
)
async def test_a_policy_that_cannot_be_applied_is_rejected_kept_out_and_reported(
    case: str, reason: str
) -> None:
    follower = Follower()
    await follower.poll(ok(publication(7)))

    pause_s = await follower.poll(ok(unusable(case), etag='"8-0-bb"'))

    assert pause_s == 0.0
    assert (follower.level, follower.client.sequence, follower.levels) == (0, 7, [0])
    await follower.poll(unchanged())
    tag, _, said = follower.asked["tidegate-rejected"].partition("; reason=")
    assert tag == '"8-0-bb"'
    assert said.startswith(f'"{reason}')
    assert follower.asked["tidegate-applied"] == '"7-0-aa"'
    # The rejected one is known too, or the server would send it again and again.
    assert follower.asked["if-none-match"] == '"7-0-aa", "8-0-bb"'


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"\xff{}", b"[" * 100_000])
async def test_an_answer_that_is_no_policy_at_all_is_rejected(body: bytes) -> None:
    follower = Follower()
    await follower.poll(ok(publication(7)))

    await follower.poll(httpx.Response(200, content=body, headers={"ETag": '"8-0-bb"'}))

    assert follower.client.sequence == 7
    assert follower.client.rejected is not None


async def test_the_same_rejected_policy_again_is_not_tried_and_not_hurried() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7)))
    await follower.poll(ok(unusable("field"), etag='"8-0-bb"'))

    assert await follower.poll(ok(unusable("field"), etag='"8-0-bb"')) == 1.0


async def test_a_good_policy_ends_a_rejection() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7)))
    await follower.poll(ok(unusable("field"), etag='"8-0-bb"'))

    await follower.poll(ok(publication(9)))
    await follower.poll(unchanged())

    assert "tidegate-rejected" not in follower.asked
    assert follower.asked["if-none-match"] == '"9-0-aa"'


async def test_when_one_subscriber_cannot_obey_all_keep_the_old_policy() -> None:
    follower = Follower()
    follower.client.subscribe(refuse_level_3)
    await follower.poll(ok(publication(7, shed_level=1)))

    await follower.poll(ok(publication(8, shed_level=3)))

    assert follower.level == 1
    assert follower.levels == [1, 3, 1]
    assert follower.client.rejected == (
        "8-0-aa",
        "refuse_level_3 could not apply it: ValueError('level 3 is not for us')",
    )


async def test_the_fleet_default_names_no_service_and_is_obeyed() -> None:
    follower = Follower()

    await follower.poll(ok(publication(7, shed_level=1, service="")))

    assert follower.level == 1


async def test_a_node_that_lags_behind_another_is_no_reason_to_report() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7, shed_level=1)))
    await follower.poll(unchanged())

    assert await follower.poll(ok(publication(6, shed_level=2))) == 1.0
    follower.clock.advance(9)
    await follower.poll(unchanged())
    follower.clock.advance(9)
    await follower.poll(ok(publication(6, shed_level=2)))

    assert (follower.level, follower.client.sequence) == (1, 7)
    assert follower.client.rejected is None


async def test_a_lower_sequence_that_stays_is_refused_and_reported_and_polling_goes_on() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7, shed_level=1)))
    await follower.poll(ok(publication(6, shed_level=2)))

    follower.clock.advance(10)
    await follower.poll(ok(publication(6, shed_level=2)))
    assert (follower.level, follower.client.sequence) == (1, 7)

    await follower.poll(ok(publication(8, shed_level=3)))
    assert 'reason="sequence: 6 is lower than 7' in follower.asked["tidegate-rejected"]
    assert (follower.level, follower.client.sequence) == (3, 8)


async def test_a_rejection_is_not_a_confirmation() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7)))
    follower.clock.advance(60)
    assert follower.client.age_s == 60

    await follower.poll(ok(publication(6)))
    assert follower.client.age_s == 60

    await follower.poll(ok(publication(8)))
    assert follower.client.age_s == 0


async def test_an_answer_that_nothing_changed_confirms_nothing_where_nothing_is_in_force() -> None:
    follower = Follower()

    await follower.poll(unchanged())

    assert follower.client.policy is SAFE_DEFAULTS
    assert follower.client.age_s is None
    assert follower.client.is_stale


async def test_a_held_poll_is_followed_by_the_next_without_a_pause() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7)))
    follower.control_plane.hold_s = 30

    assert await follower.poll(unchanged()) == 0.0


@pytest.mark.parametrize(("luck", "pause_s"), [(0.0, 0.0), (0.5, 5.0), (1.0, 10.0)])
async def test_a_server_that_does_not_hold_is_polled_over_the_whole_interval(
    luck: float, pause_s: float
) -> None:
    follower = Follower(luck=luck)
    await follower.poll(ok(publication(7)))

    assert await follower.poll(unchanged()) == pause_s


@pytest.mark.parametrize("luck", [0.0, 1.0])
async def test_failures_back_off_exponentially_with_full_jitter(luck: float) -> None:
    follower = Follower(luck=luck)

    pauses = [await follower.poll(httpx.ConnectError("refused")) for _ in range(4)]

    assert pauses == [bound * luck for bound in (0.5, 1.0, 2.0, 4.0)]
    assert follower.client.policy is SAFE_DEFAULTS


@pytest.mark.parametrize(("luck", "pause_s"), [(0.0, 7.0), (1.0, 14.0)])
async def test_retry_after_is_respected_and_spread(luck: float, pause_s: float) -> None:
    follower = Follower(luck=luck)

    assert await follower.poll(httpx.Response(503, headers={"Retry-After": "7"})) == pause_s


async def test_a_refused_client_keeps_its_policy_and_polls_slowly() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7, shed_level=1)))

    pauses = [await follower.poll(httpx.Response(401)) for _ in range(20)]

    assert pauses == [10.0] * 20
    assert follower.level == 1


async def test_the_circuit_stops_polls_that_would_fail_anyway_and_probes() -> None:
    follower = Follower()
    for _ in range(5):
        await follower.poll(httpx.ConnectError("refused"))

    assert await follower.client.poll_once() == 7.5
    assert len(follower.control_plane.polls) == 5

    follower.clock.advance(5)
    assert await follower.poll(ok(publication(7))) == 0.0
    assert follower.client.sequence == 7


async def test_a_success_after_failures_never_opens_the_circuit() -> None:
    follower = Follower()
    for _ in range(4):
        await follower.poll(httpx.ConnectError("refused"))

    await follower.poll(ok(publication(7)))
    await follower.poll(unchanged())

    assert len(follower.control_plane.polls) == 6


async def test_after_a_failure_the_first_poll_is_plain_then_they_are_held_again() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7)))
    await follower.poll(httpx.ReadError("reset"))

    assert await follower.poll(unchanged()) == 0.0
    assert "prefer" not in follower.asked

    await follower.poll(unchanged())
    assert follower.asked["prefer"] == "wait=30"


async def test_however_old_the_policy_grows_it_stays_in_force() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7, shed_level=2)))

    for _ in range(100):
        follower.clock.advance(3600)
        await follower.poll(httpx.ConnectError("refused"))

    assert follower.client.is_stale
    assert follower.client.age_s == 360_000
    assert follower.level == 2


async def test_sequence_and_age_are_metrics_and_absent_while_unknown() -> None:
    follower = Follower()
    assert b"\ntidegate_config_sequence " not in follower.client.metrics.text()

    await follower.poll(ok(publication(7)))
    follower.clock.advance(3)

    text = follower.client.metrics.text()
    assert b"\ntidegate_config_sequence 7.0\n" in text
    assert b"\ntidegate_config_age_seconds 3.0\n" in text


async def test_an_answer_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.control_plane.MAX_BODY_BYTES", 100)
    follower = Follower()

    await follower.poll(ok(publication(7)))

    assert follower.client.sequence is None
    assert follower.client.rejected is None


async def test_start_returns_after_the_first_answer_and_stop_leaves_nothing_running() -> None:
    follower = Follower()
    follower.control_plane.answers = [ok(publication(7, shed_level=1)), ok(publication(8))]
    before = asyncio.all_tasks()

    await follower.client.start()
    assert follower.client.sequence is not None
    await follower.client.start()
    await follower.client.stop()

    assert asyncio.all_tasks() == before
    assert follower.client.sequence is not None

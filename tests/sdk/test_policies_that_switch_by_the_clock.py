from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import httpx
import pytest

from tests.sdk.following import (
    NOON,
    Follower,
    ok,
    policy_document,
    publication,
    refuse_level_3,
    unchanged,
)
from tests.sdk.inbound import FakeClock
from tidegate import SAFE_DEFAULTS
from tidegate.clock import ServerClock
from tidegate.store import PolicyStore, StoredPublication


def stored_copy(sequence: int) -> StoredPublication:
    body = json.dumps(publication(sequence)).encode()
    return StoredPublication(f"{sequence}-0-aa", body, 0.0, NOON)


async def test_an_override_ends_on_time_with_the_server_dead() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7, shed_level=2, scheduled=[(NOON + 20, 0)])))
    await follower.poll(httpx.ConnectError("refused"))

    follower.clock.advance(19.9)
    assert follower.client.follow_schedule() == pytest.approx(0.1)
    assert follower.level == 2

    follower.clock.advance(0.1)
    follower.client.follow_schedule()

    assert follower.level == 0
    assert follower.levels == [2, 0]
    assert (follower.client.sequence, follower.client.etag) == (7, "7-1-aa")


async def test_after_switching_by_itself_it_polls_on_with_the_tag_of_the_step() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7, shed_level=2, scheduled=[(NOON + 20, 0)])))
    follower.clock.advance(20)
    follower.client.follow_schedule()

    await follower.poll(unchanged())

    assert follower.asked["if-none-match"] == '"7-1-aa"'
    assert follower.asked["tidegate-applied"] == '"7-1-aa"'


async def test_steps_that_passed_on_the_way_are_not_applied_in_passing() -> None:
    follower = Follower()
    steps = [(NOON + 10, 2), (NOON + 20, 3), (NOON + 30, 0)]
    await follower.poll(ok(publication(7, shed_level=1, scheduled=steps)))

    follower.clock.advance(25)
    follower.client.follow_schedule()

    assert follower.levels == [1, 3]


async def test_a_restart_with_the_server_dead_finds_the_override_over(tmp_path: Path) -> None:
    before = Follower(tmp_path)
    await before.poll(ok(publication(7, shed_level=2, scheduled=[(NOON + 20, 0)])))

    after = Follower(tmp_path, clock=before.clock)
    before.clock.advance(600)
    after.client.load()

    assert after.level == 0
    assert (after.client.sequence, after.client.etag) == (7, "7-1-aa")
    assert after.client.age_s == pytest.approx(600)


async def test_a_restart_within_the_override_resumes_it_and_still_ends_it(tmp_path: Path) -> None:
    before = Follower(tmp_path)
    await before.poll(ok(publication(7, shed_level=2, scheduled=[(NOON + 20, 0)])))

    after = Follower(tmp_path, clock=before.clock)
    before.clock.advance(10)
    after.client.load()
    assert after.level == 2

    before.clock.advance(10)
    after.client.follow_schedule()
    assert after.level == 0


async def test_a_server_whose_clock_is_behind_ours_does_not_make_the_policy_flap() -> None:
    follower = Follower()
    body = publication(7, shed_level=2, scheduled=[(NOON + 20, 0)])
    await follower.poll(ok(body))
    follower.clock.advance(20)
    follower.client.follow_schedule()

    pauses_s = [await follower.poll(ok(body)) for _ in range(3)]

    assert follower.levels == [2, 0]
    assert pauses_s == [1.0, 1.0, 1.0]


async def test_schedules_follow_the_servers_clock_not_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    follower = Follower()
    follower.control_plane.ahead_s = 100

    with caplog.at_level(logging.WARNING, "tidegate"):
        await follower.poll(ok(publication(7, shed_level=2, scheduled=[(NOON + 90, 0)])))

    assert follower.level == 0
    assert follower.client.skew_s == pytest.approx(101, abs=1.01)
    assert "clock is 101.0 s behind the control plane's" in caplog.text


async def test_the_skew_outlives_a_restart(tmp_path: Path) -> None:
    before = Follower(tmp_path)
    before.control_plane.ahead_s = 100
    await before.poll(ok(publication(7, shed_level=2, scheduled=[(NOON + 150, 0)])))

    after = Follower(tmp_path, clock=before.clock)
    before.clock.advance(60)
    after.client.load()

    assert after.level == 0


def test_a_clock_that_the_answers_do_not_contradict_is_trusted_exactly() -> None:
    clock = FakeClock()
    clock.now_s = NOON + 0.7
    server = ServerClock(wall=clock, elapsed=clock)

    server.observe("Mon, 02 Nov 2026 12:00:00 GMT", sent_s=NOON + 0.6)

    assert server.skew_s == 0.0


def test_stepping_the_local_clock_changes_nothing_once_the_server_was_heard() -> None:
    wall, elapsed = FakeClock(), FakeClock()
    wall.now_s = NOON
    server = ServerClock(wall=wall, elapsed=elapsed)
    server.observe("Mon, 02 Nov 2026 12:00:00 GMT", sent_s=elapsed())

    wall.advance(3600)
    elapsed.advance(5)

    assert server.now_s() == pytest.approx(NOON + 5)


def test_successive_answers_sharpen_the_estimate() -> None:
    wall, elapsed = FakeClock(), FakeClock()
    wall.now_s = 0.0  # far off: only the answers count
    server = ServerClock(wall=wall, elapsed=elapsed)
    start_s, true_s = elapsed(), NOON + 0.95

    for pause_s in (0.0, 0.1, 0.85, 0.3, 0.75):
        elapsed.advance(pause_s)
        true_now_s = true_s + elapsed() - start_s
        whole = int(true_now_s - NOON)
        server.observe(f"Mon, 02 Nov 2026 12:00:0{whole} GMT", sent_s=elapsed())

    assert server.now_s() == pytest.approx(true_s + elapsed() - start_s, abs=0.6)


@pytest.mark.parametrize(
    "date",
    [
        None,
        "",
        "yesterday",
        "Mon, 99 Nov 2026 12:00:00 GMT",
        "Mon, 02 Nov 99999999999999999999 12:00:00 GMT",
        "Mon, 02 Nov 2026 12:00:00 +99999999999999999999",
    ],
)
def test_a_missing_or_senseless_date_teaches_nothing(date: str | None) -> None:
    clock = FakeClock()
    server = ServerClock(wall=clock, elapsed=clock, skew_s=3.0)

    server.observe(date, sent_s=clock())

    assert server.skew_s == 3.0


async def test_a_step_that_a_subscriber_refuses_keeps_the_old_and_is_reported() -> None:
    follower = Follower()
    follower.client.subscribe(refuse_level_3)
    await follower.poll(ok(publication(7, shed_level=2, scheduled=[(NOON + 20, 3)])))

    follower.clock.advance(20)
    follower.client.follow_schedule()
    await follower.poll(unchanged())

    assert follower.level == 2
    assert follower.asked["tidegate-rejected"].startswith('"7-1-aa"; reason="refuse_level_3')


async def test_the_copy_on_disk_is_private_whole_and_complete(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "state")
    await follower.poll(ok(publication(7, shed_level=2, scheduled=[(NOON + 20, 0)])))

    (file,) = (tmp_path / "state").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    stored = PolicyStore(tmp_path / "state", "prod", "checkout").load()
    assert stored is not None
    assert json.loads(stored.body) == publication(7, shed_level=2, scheduled=[(NOON + 20, 0)])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 1}',
        b'{"format": 9}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": 2, "etag": "7", "body": "{}", "signature": null, "keys": [], "skew_s": %s}'
        % (b"9" * 400),
    ],
    ids=["empty", "torn", "list", "bare", "future", "binary", "deep", "absurd"],
)
async def test_a_damaged_copy_means_safe_defaults(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "prod.checkout.json").write_bytes(content)
    follower = Follower(tmp_path)

    follower.client.load()

    assert follower.client.policy is SAFE_DEFAULTS


async def test_a_stored_policy_is_checked_again_before_it_is_trusted(tmp_path: Path) -> None:
    body = publication(7, shed_level=2)
    body["policy"] = policy_document() | {"inbound": {}}
    PolicyStore(tmp_path, "prod", "checkout").save(
        StoredPublication("7-0-aa", json.dumps(body).encode(), 0.0, NOON)
    )
    follower = Follower(tmp_path)

    follower.client.load()

    assert follower.client.policy is SAFE_DEFAULTS
    assert follower.client.etag is None


async def test_a_lower_sequence_never_replaces_a_higher_one_on_disk(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path, "prod", "checkout")
    store.save(stored_copy(8))

    store.save(stored_copy(7))

    stored = store.load()
    assert stored is not None
    assert stored.etag == "8-0-aa"


async def test_a_copy_of_the_format_before_is_read(tmp_path: Path) -> None:
    old = {
        "format": 1,
        "etag": "7-0-aa",
        "document": publication(7, shed_level=2),
        "skew_s": 0.0,
        "saved_at_unix_s": NOON,
    }
    (tmp_path / "prod.checkout.json").write_text(json.dumps(old))
    follower = Follower(tmp_path)

    follower.client.load()

    assert (follower.level, follower.client.etag) == (2, "7-0-aa")


async def test_a_copy_that_is_no_good_is_replaced_even_by_a_lower_sequence(tmp_path: Path) -> None:
    body = publication(9) | {"policy": {}}
    store = PolicyStore(tmp_path, "prod", "checkout")
    store.save(StoredPublication("9-0-aa", json.dumps(body).encode(), 0.0, NOON))
    follower = Follower(tmp_path)
    follower.client.load()

    await follower.poll(ok(publication(7)))

    stored = store.load()
    assert stored is not None
    assert (stored.etag, follower.client.etag) == ("7-0-aa", "7-0-aa")


async def test_a_copy_that_cannot_be_written_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(tmp_path)
    await follower.poll(ok(publication(7)))

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tidegate.store.os.fsync", no_space)
    await follower.poll(ok(publication(8, shed_level=1)))

    assert follower.level == 1
    assert follower.client.etag == "7-0-aa"
    assert os.listdir(tmp_path) == ["prod.checkout.json"]
    stored = PolicyStore(tmp_path, "prod", "checkout").load()
    assert stored is not None
    assert stored.etag == "7-0-aa"


async def test_the_clock_follower_switches_without_being_asked() -> None:
    follower = Follower()
    await follower.poll(ok(publication(7, shed_level=2, scheduled=[(NOON + 20, 0)])))
    follower.clock.advance(20)
    follower.control_plane.answers = [httpx.ConnectError("refused") for _ in range(50)]

    await follower.client.start()
    await follower.client.stop()

    assert follower.level == 0

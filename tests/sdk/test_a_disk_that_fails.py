"""A state directory that cannot be written: the policy is enforced, calmly asked for, and said."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.delivery.builders import VirtualTimeLoop, run_virtually
from tests.sdk.following import Follower, ok, publication, refuse_level_3
from tests.sdk.streaming import Following


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "could not be stored" in each.message]


def test_polls_are_held_all_the_same_and_the_policy_is_stored_when_the_disk_works_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop, state_dir=tmp_path, transport="long_poll")
        following.is_disk_full = True
        async with following:
            await asyncio.sleep(600)

            plane, client = following.plane, following.client
            assert (client.applied, client.etag) == ("7-0-aa", None)
            # The first brings the policy, the second says so, and the rest wait for another one.
            assert plane.kinds()[:3] == ["short", "short", "held"]
            assert set(plane.kinds()[2:]) == {"held"}
            assert len(plane.kinds()) == pytest.approx(2 + 590 / 30, abs=1)
            assert plane.last("held")["if-none-match"] == '"7-0-aa"'
            assert "if-none-match" not in plane.last("short")
            assert (client.transport, client.is_stale) == ("long_poll", False)

            plane.publish(8, shed_level=2)
            await asyncio.sleep(1)
            assert (following.level, client.etag) == (2, None)
            assert plane.last("short")["tidegate-applied"] == '"8-0-aa"'

            following.is_disk_full = False
            await asyncio.sleep(60)
            assert client.etag == "8-0-aa"
            assert plane.last("held")["if-none-match"] == '"8-0-aa"'

    with caplog.at_level(logging.INFO, "tidegate"):
        run_virtually(story)
    assert len(warnings_of(caplog)) == 1
    assert "the policy is stored again" in caplog.text


def test_where_nothing_is_held_it_is_asked_for_at_the_servers_interval(tmp_path: Path) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop, state_dir=tmp_path, transport="poll")
        following.is_disk_full = True
        async with following:
            await asyncio.sleep(595)

            polls = [asked.at_s for asked in following.plane.asked]
            assert polls == [0.0, *[10.0 * number for number in range(60)]]
            following.is_disk_full = False
            await asyncio.sleep(10)
            assert following.client.etag == "7-0-aa"

    run_virtually(story)


def test_a_stream_stays_open_and_brings_the_policy_once(tmp_path: Path) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop, state_dir=tmp_path)
        following.is_disk_full = True
        async with following:
            await asyncio.sleep(595)
            assert following.plane.kinds().count("stream") == 1
            assert following.plane.kinds().count("short") == 2 + 9
            assert "last-event-id" not in following.plane.last("stream")

            following.is_disk_full = False
            await asyncio.sleep(60)
            assert following.client.etag == "7-0-aa"

    run_virtually(story)


def test_what_is_refused_meanwhile_is_waited_beyond_as_well(tmp_path: Path) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(
            loop, state_dir=tmp_path, transport="long_poll", on_change=(refuse_level_3,)
        )
        following.is_disk_full = True
        async with following:
            await asyncio.sleep(100)
            following.plane.publish(8, shed_level=3)
            await asyncio.sleep(100)

            assert following.level == 0
            assert following.plane.last("held")["if-none-match"] == '"7-0-aa", "8-0-aa"'
            assert following.plane.kinds(since_s=130)[-2:] == ["held", "held"]
            following.is_disk_full = False
            await asyncio.sleep(60)
            assert following.client.etag == "7-0-aa"

    run_virtually(story)


async def test_a_disk_that_fails_again_is_said_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    follower = Follower(tmp_path)
    with caplog.at_level(logging.INFO, "tidegate"):
        for sequence in (7, 9):
            with monkeypatch.context() as failing:
                failing.setattr("tidegate.store.os.replace", no_space)
                for _ in range(3):
                    await follower.poll(ok(publication(sequence)))
            await follower.poll(ok(publication(sequence + 1)))

    assert len(warnings_of(caplog)) == 2
    assert caplog.text.count("the policy is stored again") == 2


async def test_what_was_meant_for_others_is_not_stored_as_ones_own(tmp_path: Path) -> None:
    await Follower(tmp_path).poll(ok(publication(9, shed_level=2, cohort="canary")))
    other = Follower(tmp_path, instance="checkout-2")
    other.client.load()

    await other.poll(ok(publication(8, shed_level=1)))
    assert "if-none-match" not in other.asked
    assert (other.level, other.client.etag) == (1, "8-0-aa")

"""Verified, read, applied, stored, and only then acknowledged: whatever fails, nothing is ahead."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import httpx
import pytest

from tests.delivery.builders import VirtualTimeLoop, run_virtually
from tests.sdk.following import Follower, publication, refuse_level_3, unchanged
from tests.sdk.signing import SigningKey
from tests.sdk.streaming import Following

KEY, STRANGER = SigningKey(1), SigningKey(9)


def signed(sequence: int, shed_level: int, key: SigningKey = KEY) -> httpx.Response:
    tag = f"{sequence}-0-aa"
    content = json.dumps({"etag": tag, **publication(sequence, shed_level)}).encode()
    headers = {"ETag": f'"{tag}"', "Tidegate-Signature": key.sign(content)}
    return httpx.Response(200, content=content, headers=headers)


def stored_sequence(state_dir: Path) -> int:
    stored = json.loads((state_dir / "prod.checkout.json").read_bytes())
    return int(json.loads(stored["body"])["sequence"])


@pytest.mark.parametrize(
    ("fails", "in_force"), [("verify", 7), ("read", 7), ("apply", 7), ("store", 8)]
)
async def test_a_step_that_fails_lets_no_later_one_happen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, in_force: int
) -> None:
    follower = Follower(tmp_path, pinned_keys=[KEY.jwk])
    follower.client.subscribe(refuse_level_3)
    await follower.poll(signed(7, 0))
    await follower.poll(unchanged())

    with monkeypatch.context() as failing:
        if fails == "read":
            failing.setattr("tidegate.publication.SCHEMA", "tidegate/v2")
        if fails == "store":
            failing.setattr("tidegate.store.os.replace", _no_space)
        level = 3 if fails == "apply" else 1
        await follower.poll(signed(8, level, STRANGER if fails == "verify" else KEY))

        assert follower.client.sequence == in_force
        assert follower.client.etag == "7-0-aa"
        assert stored_sequence(tmp_path) == 7
        await follower.poll(unchanged())
        said = follower.asked
        assert said["tidegate-applied"] == f'"{in_force}-0-aa"'
        assert said["if-none-match"].startswith('"7-0-aa"')
        assert ("tidegate-rejected" in said) == (fails != "store")

    # The same publication again is taken once nothing fails; a refused one needs another.
    sequence = 9 if fails in ("read", "apply") else 8
    await follower.poll(signed(sequence, 1))
    assert follower.client.etag == f"{sequence}-0-aa"
    assert stored_sequence(tmp_path) == sequence


def _no_space(source: object, target: object) -> None:
    raise OSError(28, "No space left on device")


async def test_the_etag_of_before_is_in_place_while_each_step_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(tmp_path)
    seen: list[tuple[str, str | None, str | None]] = []

    def look(step: str) -> None:
        seen.append((step, follower.client.applied, follower.client.etag))

    await follower.poll(signed(7, 0))
    follower.client.subscribe(lambda policy: look("apply"))
    replace = os.replace

    def watched(source: str, target: str) -> None:
        look("store")
        replace(source, target)

    monkeypatch.setattr("tidegate.store.os.replace", watched)
    await follower.poll(signed(8, 1))

    assert seen == [("apply", "7-0-aa", "7-0-aa"), ("store", "8-0-aa", "7-0-aa")]
    assert follower.client.etag == "8-0-aa"


async def test_a_client_that_is_stopped_while_it_stores_has_not_advanced(tmp_path: Path) -> None:
    is_storing = asyncio.Event()

    async def never(work: object) -> None:
        is_storing.set()
        await asyncio.Event().wait()

    follower = Follower(tmp_path, in_thread=never)
    polling = asyncio.create_task(follower.poll(signed(7, 1)))
    await is_storing.wait()
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)

    assert (follower.client.sequence, follower.client.etag) == (7, None)
    assert not (tmp_path / "prod.checkout.json").exists()


@pytest.mark.parametrize("fails", ["apply", "store"])
def test_on_a_stream_the_same_order_holds(tmp_path: Path, fails: str) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, state_dir=tmp_path, on_change=(refuse_level_3,)) as following:
            await asyncio.sleep(10)
            following.is_disk_full = fails == "store"
            following.plane.publish(8, shed_level=3 if fails == "apply" else 1)
            await asyncio.sleep(1)

            assert following.client.etag == "7-0-aa"
            assert stored_sequence(tmp_path) == 7
            said = following.plane.last("short")
            assert said["if-none-match"].startswith('"7-0-aa"')
            assert said["tidegate-applied"] == ('"8-0-aa"' if fails == "store" else '"7-0-aa"')

            following.is_disk_full = False
            following.plane.publish(9, shed_level=1)
            await asyncio.sleep(1)
            assert (following.client.etag, stored_sequence(tmp_path)) == ("9-0-aa", 9)

    run_virtually(story)

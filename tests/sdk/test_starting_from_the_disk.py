"""Which copy an instance starts from: everybody's, its own, or for want of those another's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sdk.following import Follower, ok, publication, unchanged


def of_canary(sequence: int, shed_level: int) -> Any:
    return ok(publication(sequence, shed_level, cohort="canary"))


def restarted(state_dir: Path, instance: str = "checkout-1") -> Follower:
    follower = Follower(state_dir, instance=instance)
    follower.client.load()
    return follower


async def canary_instance(state_dir: Path) -> None:
    """An instance that had everybody's policy, and then the canary's."""
    follower = Follower(state_dir)
    await follower.poll(ok(publication(8, shed_level=1)))
    await follower.poll(of_canary(9, shed_level=2))
    assert follower.client.etag == "9-0-aa"


async def test_an_instance_of_a_canary_starts_from_its_own_copy(tmp_path: Path) -> None:
    await canary_instance(tmp_path)

    again = restarted(tmp_path)

    assert (again.level, again.client.etag) == (2, "9-0-aa")


async def test_an_instance_by_another_name_starts_from_everybodys(tmp_path: Path) -> None:
    await canary_instance(tmp_path)

    other = restarted(tmp_path, "checkout-2")

    assert (other.level, other.client.etag) == (1, "8-0-aa")
    await other.poll(unchanged())
    assert other.asked["if-none-match"] == '"8-0-aa"'


async def test_without_everybodys_it_borrows_the_canarys_until_it_is_told(tmp_path: Path) -> None:
    await Follower(tmp_path).poll(of_canary(9, shed_level=2))

    other = restarted(tmp_path, "checkout-2")
    assert (other.level, other.client.etag) == (2, None)

    await other.poll(ok(publication(8, shed_level=1)))
    assert "if-none-match" not in other.asked
    assert (other.level, other.client.etag, other.client.rejected) == (1, "8-0-aa", None)

    # From now on it is as strict as any.
    await other.poll(ok(publication(7, shed_level=3)))
    assert other.level == 1


async def test_another_instances_copy_of_a_canary_is_in_nobodys_way(tmp_path: Path) -> None:
    await Follower(tmp_path).poll(of_canary(12, shed_level=3))

    await Follower(tmp_path, instance="checkout-2").poll(of_canary(9, shed_level=2))

    assert restarted(tmp_path, "checkout-2").client.etag == "9-0-aa"


async def test_when_its_canary_is_over_everybodys_newer_copy_counts(tmp_path: Path) -> None:
    await canary_instance(tmp_path)
    await Follower(tmp_path).poll(ok(publication(10, shed_level=3)))

    again = restarted(tmp_path)

    assert (again.level, again.client.etag) == (3, "10-0-aa")


async def test_instances_of_both_kinds_may_share_a_directory(tmp_path: Path) -> None:
    await canary_instance(tmp_path)
    other = restarted(tmp_path, "checkout-2")
    await other.poll(ok(publication(8, shed_level=1)))
    third = Follower(tmp_path, instance="checkout-3")
    await third.poll(of_canary(9, shed_level=2))

    assert sorted(os.listdir(tmp_path)) == [
        "prod.checkout.canary.json",
        "prod.checkout.json",
    ]
    assert restarted(tmp_path, "checkout-2").level == 1
    assert restarted(tmp_path, "checkout-3").level == 2
    assert restarted(tmp_path, "checkout-1").level == 1


@pytest.mark.parametrize("file", ["prod.checkout.json", "prod.checkout.canary.json"])
async def test_one_copy_that_is_no_good_leaves_the_other(tmp_path: Path, file: str) -> None:
    await canary_instance(tmp_path)
    stored = json.loads((tmp_path / file).read_text())
    stored["body"] = "{}"
    (tmp_path / file).write_text(json.dumps(stored))

    again = restarted(tmp_path)

    assert again.level == (2 if file == "prod.checkout.json" else 1)


async def test_the_age_of_a_policy_outlives_a_restart(tmp_path: Path) -> None:
    before = Follower(tmp_path)
    await before.poll(ok(publication(7)))
    for _ in range(100):
        before.clock.advance(30)
        await before.poll(unchanged())

    after = Follower(tmp_path, clock=before.clock)
    before.clock.advance(10)
    after.client.load()

    # Confirmed to the very end, and noted about once a minute.
    assert after.client.age_s is not None
    assert 10 <= after.client.age_s <= 10 + 60
    assert not after.client.is_stale


async def test_confirmations_are_noted_once_a_minute_by_one_of_those_who_share_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Follower(tmp_path)
    second = Follower(tmp_path, clock=first.clock, instance="checkout-2")
    for follower in (first, second):
        await follower.poll(ok(publication(7)))
    written: list[str] = []
    replace = os.replace

    def count(source: str, target: str) -> None:
        written.append(target)
        replace(source, target)

    monkeypatch.setattr("tidegate.store.os.replace", count)
    for _ in range(60):
        first.clock.advance(10)
        for follower in (first, second):
            await follower.poll(unchanged())

    assert len(written) == 10


@pytest.mark.parametrize("answer", ["refused", "nothing", "lower"])
async def test_what_is_not_confirmed_grows_old_on_disk_too(tmp_path: Path, answer: str) -> None:
    follower = Follower(tmp_path)
    await follower.poll(ok(publication(7)))
    for _ in range(10):
        follower.clock.advance(60)
        if answer == "refused":
            await follower.poll(ok(publication(8) | {"policy": {}}))
        elif answer == "nothing":
            await follower.poll(httpx.ConnectError("refused"))
        else:
            await follower.poll(ok(publication(6)))

    again = Follower(tmp_path, clock=follower.clock)
    again.client.load()

    assert again.client.age_s == 600


async def test_a_note_leaves_alone_what_others_wrote_or_a_person_removed(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    await follower.poll(ok(publication(7)))
    file = tmp_path / "prod.checkout.json"
    await Follower(tmp_path).poll(ok(publication(8, shed_level=2)))
    written = file.read_bytes()

    follower.clock.advance(90)
    await follower.poll(unchanged())
    assert file.read_bytes() == written

    file.unlink()
    follower.clock.advance(90)
    await follower.poll(unchanged())
    assert not file.exists()


async def test_a_note_does_not_take_the_copy_of_another_canary_instance(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    await follower.poll(of_canary(9, shed_level=2))
    await Follower(tmp_path, instance="checkout-2").poll(of_canary(9, shed_level=2))
    file = tmp_path / "prod.checkout.canary.json"
    written = file.read_bytes()

    follower.clock.advance(90)
    await follower.poll(unchanged())

    assert file.read_bytes() == written

"""A token that is another one from one request to the next."""

from __future__ import annotations

from pathlib import Path

from tests.sdk.following import Follower, ok, publication, unchanged


async def test_a_token_from_a_file_is_read_anew_for_every_poll(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("tgs_old\n")
    follower = Follower(token=secret.read_text)

    await follower.poll(ok(publication(7)))
    before = follower.asked["authorization"]
    secret.write_text("tgs_new\n")
    await follower.poll(unchanged())

    assert (before, follower.asked["authorization"]) == ("Bearer tgs_old", "Bearer tgs_new")


async def test_a_token_that_cannot_be_read_keeps_the_policy_and_is_tried_again(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "token"
    secret.write_text("tgs_old")
    follower = Follower(token=secret.read_text)
    await follower.poll(ok(publication(7, shed_level=2)))

    secret.unlink()
    pause_s = await follower.client.poll_once()

    assert pause_s > 0.0
    assert (follower.level, len(follower.control_plane.polls)) == (2, 1)
    secret.write_text("tgs_new")
    await follower.poll(unchanged())
    assert follower.asked["authorization"] == "Bearer tgs_new"


async def test_the_list_of_keys_is_asked_for_without_the_token() -> None:
    follower = Follower(token=lambda: "tgs_secret")
    follower.control_plane.keys = {"keys": []}

    await follower.client._control_plane.keys()

    assert "authorization" not in follower.asked

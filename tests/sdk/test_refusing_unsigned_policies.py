"""A client that pins keys: what it takes, refuses, reports, learns and keeps."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.delivery.builders import VirtualTimeLoop, run_virtually
from tests.sdk.following import Follower, ok, publication, unchanged
from tests.sdk.signing import SigningKey, key_list
from tests.sdk.streaming import Following, StreamingPlane
from tidegate import SAFE_DEFAULTS

FIRST, SECOND, THIRD, STRANGER = (SigningKey(number) for number in (1, 2, 3, 9))


def signed(
    body: dict[str, Any], key: SigningKey | None = FIRST, etag: str | None = None
) -> httpx.Response:
    tag = f"{body['sequence']}-0-aa" if etag is None else etag
    content = json.dumps({"etag": tag, **body}).encode()
    headers = {"ETag": f'"{tag}"'}
    if key is not None:
        headers["Tidegate-Signature"] = key.sign(content)
    return httpx.Response(200, content=content, headers=headers)


def verifier(state_dir: Path | None = None) -> Follower:
    return Follower(state_dir, pinned_keys=[FIRST.jwk])


async def test_a_signed_policy_is_taken() -> None:
    follower = verifier()

    await follower.poll(signed(publication(7, shed_level=1)))

    assert (follower.level, follower.client.etag) == (1, "7-0-aa")
    assert follower.client.signature_failures == 0


def tampered(answer: httpx.Response) -> httpx.Response:
    content = answer.content.replace(b'"level": 1', b'"level": 2')
    assert content != answer.content
    return httpx.Response(200, content=content, headers=dict(answer.headers) | _length(content))


def _length(content: bytes) -> dict[str, str]:
    return {"content-length": str(len(content))}


def readdressed(answer: httpx.Response, etag: str) -> httpx.Response:
    headers = dict(answer.headers) | {"etag": f'"{etag}"'}
    return httpx.Response(200, content=answer.content, headers=headers)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: signed(publication(8, 1), None), "signature: missing, and this client verifies"),
        (lambda: signed(publication(8, 1), STRANGER), "signature: key"),
        (lambda: tampered(signed(publication(8, 1))), "signature: it does not match the body"),
        (lambda: signed(publication(8, 1, service="payments")), "it is for prod/payments"),
        (lambda: signed(publication(8, 1, environment="staging")), "it is for staging/checkout"),
        (lambda: signed(publication(8, 1, etag=None)), "etag: expected the tag of this policy"),
        (lambda: readdressed(signed(publication(7, 1)), "8-0-aa"), "etag: the body is 7-0-aa"),
    ],
    ids=["unsigned", "stranger", "tampered", "service", "environment", "no etag", "other etag"],
)
async def test_what_does_not_verify_is_refused_reported_and_asked_for_again(
    answer: Any, reason: str
) -> None:
    follower = verifier()
    follower.control_plane.keys = key_list(FIRST.listed())
    await follower.poll(signed(publication(7)))
    await follower.poll(unchanged())

    assert await follower.poll(answer()) == 0.0
    assert (follower.level, follower.client.sequence) == (0, 7)

    # The same again is no news: the pace is the server's. Once it is good, it is taken.
    assert await follower.poll(answer()) == 5.0
    tag, _, said = follower.asked["tidegate-rejected"].partition("; reason=")
    assert (tag, said[1 : len(reason) + 1]) == ('"8-0-aa"', reason)
    assert follower.asked["tidegate-applied"] == '"7-0-aa"'
    assert follower.asked["if-none-match"] == '"7-0-aa"'

    await follower.poll(signed(publication(8, shed_level=1)))
    assert (follower.level, follower.client.rejected) == (1, None)


async def test_two_nodes_of_which_one_cannot_sign_are_not_polled_in_a_race() -> None:
    follower = verifier()
    await follower.poll(signed(publication(7)))
    current = httpx.Response(304, headers={"ETag": '"7-0-aa"'})

    pauses_s = []
    for _ in range(5):
        pauses_s.append(await follower.poll(signed(publication(8), None)))
        pauses_s.append(await follower.poll(current))

    assert pauses_s[-4:] == [1.0] * 4


async def test_refusals_for_their_signature_are_counted() -> None:
    follower = verifier()

    await follower.poll(signed(publication(7), None))
    await follower.poll(tampered(signed(publication(7, 1))))

    assert follower.client.signature_failures == 2
    text = follower.client.metrics.text()
    assert b"\ntidegate_config_signature_failures_total 2.0\n" in text
    assert follower.client.policy is SAFE_DEFAULTS


async def test_a_signed_policy_that_cannot_be_applied_is_refused_for_good() -> None:
    follower = verifier()
    await follower.poll(signed(publication(7)))

    await follower.poll(signed(publication(8) | {"policy": {}}))
    await follower.poll(unchanged())

    assert follower.asked["if-none-match"] == '"7-0-aa", "8-0-aa"'


async def test_a_key_that_the_pinned_one_endorses_is_fetched_and_believed() -> None:
    follower = verifier()
    follower.control_plane.keys = key_list(FIRST.listed(), SECOND.listed(FIRST))

    await follower.poll(signed(publication(7, shed_level=1), SECOND))

    assert follower.level == 1
    assert follower.control_plane.urls[-1] == "https://tidegate.example/config/v1/keys"
    assert "authorization" not in follower.asked


async def test_the_list_of_keys_is_not_fetched_for_every_stranger() -> None:
    follower = verifier()
    follower.control_plane.keys = key_list(FIRST.listed())

    for _ in range(10):
        await follower.poll(signed(publication(7), STRANGER))
        follower.clock.advance(5)

    asked = [url for url in follower.control_plane.urls if url.endswith("/keys")]
    assert len(asked) == 2
    assert follower.client.policy is SAFE_DEFAULTS


async def test_a_list_of_keys_that_cannot_be_had_leaves_the_policy_refused_for_now() -> None:
    follower = verifier()
    follower.control_plane.keys = None

    await follower.poll(signed(publication(7, shed_level=1), SECOND))
    assert follower.client.policy is SAFE_DEFAULTS

    follower.control_plane.keys = key_list(SECOND.listed(FIRST))
    follower.clock.advance(60)
    await follower.poll(signed(publication(7, shed_level=1), SECOND))
    assert follower.level == 1


async def test_a_list_of_keys_that_asks_for_time_gets_it() -> None:
    follower = verifier()
    follower.control_plane.keys_answer = httpx.Response(503, headers={"Retry-After": "120"})

    for _ in range(20):
        await follower.poll(signed(publication(7), STRANGER))
        follower.clock.advance(10)

    asked = [url for url in follower.control_plane.urls if url.endswith("/keys")]
    assert len(asked) == 2


async def test_the_copy_on_disk_is_verified_by_the_keys_that_were_adopted(tmp_path: Path) -> None:
    before = verifier(tmp_path)
    before.control_plane.keys = key_list(SECOND.listed(FIRST))
    await before.poll(signed(publication(7, shed_level=1), SECOND))

    after = verifier(tmp_path)
    after.client.load()

    assert (after.level, after.client.etag) == (1, "7-0-aa")


def spoil(path: Path, kind: str) -> None:
    stored = json.loads(path.read_text())
    if kind == "body":
        stored["body"] = stored["body"].replace('"level": 1', '"level": 2')
    elif kind == "no signature":
        stored["signature"] = None
    elif kind == "no keys":
        stored["keys"] = []
    elif kind == "own endorsement":
        stored["keys"] = [SECOND.listed(SECOND)]
    elif kind == "old format":
        stored = stored | {"format": 1, "document": json.loads(stored["body"])}
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    "kind", ["body", "no signature", "no keys", "own endorsement", "old format"]
)
async def test_a_copy_on_disk_that_does_not_verify_is_not_used_and_is_replaced(
    tmp_path: Path, kind: str
) -> None:
    before = verifier(tmp_path)
    before.control_plane.keys = key_list(SECOND.listed(FIRST))
    await before.poll(signed(publication(7, shed_level=1), SECOND))
    spoil(tmp_path / "prod.checkout.json", kind)

    after = verifier(tmp_path)
    after.client.load()
    assert after.client.policy is SAFE_DEFAULTS

    after.control_plane.keys = before.control_plane.keys
    await after.poll(signed(publication(6, shed_level=1), SECOND))
    restarted = verifier(tmp_path)
    restarted.client.load()
    assert restarted.client.sequence == 6


async def test_a_copy_stored_without_verifying_is_good_for_a_client_that_pins_later(
    tmp_path: Path,
) -> None:
    await Follower(tmp_path).poll(signed(publication(7, shed_level=1)))

    later = verifier(tmp_path)
    later.client.load()

    assert later.level == 1


async def test_a_withdrawn_key_is_dropped_and_its_policy_fetched_with_another_signature(
    tmp_path: Path,
) -> None:
    follower = verifier(tmp_path)
    follower.control_plane.keys = key_list(SECOND.listed(FIRST))
    await follower.poll(signed(publication(7, shed_level=1), SECOND))
    follower.control_plane.keys = key_list(FIRST.listed())

    follower.clock.advance(3600)
    await follower.poll(unchanged())
    assert (follower.level, follower.client.etag) == (1, None)

    await follower.poll(signed(publication(7, shed_level=1), FIRST))
    assert "if-none-match" not in follower.asked
    assert follower.client.etag == "7-0-aa"
    restarted = verifier(tmp_path)
    restarted.client.load()
    assert restarted.level == 1


async def test_a_key_that_is_announced_later_is_kept_with_the_policy_of_before(
    tmp_path: Path,
) -> None:
    follower = verifier(tmp_path)
    follower.control_plane.keys = key_list(SECOND.listed(FIRST))
    await follower.poll(signed(publication(7, shed_level=1), SECOND))
    follower.control_plane.keys = key_list(SECOND.listed(FIRST), THIRD.listed(SECOND))

    follower.clock.advance(3600)
    await follower.poll(unchanged())

    stored = json.loads((tmp_path / "prod.checkout.json").read_bytes())
    assert {key["kid"] for key in stored["keys"]} == {SECOND.kid, THIRD.kid}
    assert follower.client.etag == "7-0-aa"


async def test_who_goes_on_from_another_client_believes_and_enforces_what_that_one_did(
    tmp_path: Path,
) -> None:
    before = Follower(tmp_path, pinned_keys=[FIRST.kid])
    before.control_plane.keys = key_list(FIRST.listed(), SECOND.listed(FIRST))
    await before.poll(signed(publication(7, shed_level=1), SECOND))
    after = Follower(tmp_path, clock=before.clock, pinned_keys=[FIRST.kid])

    after.client.take_over(before.client.hand_over())

    before.clock.advance(20)
    assert (after.level, after.client.sequence, after.client.age_s) == (1, 7, 20)
    assert (after.client.applied, after.client.etag) == ("7-0-aa", "7-0-aa")
    assert after.levels == []  # its subscribers obey it already
    await after.poll(signed(publication(8, shed_level=2), SECOND))
    assert (after.levels, after.client.etag) == ([2], "8-0-aa")
    assert after.control_plane.polls[0]["if-none-match"] == '"7-0-aa"'
    assert after.control_plane.keys is None  # it needed no list of them


async def test_what_is_on_disk_takes_nothing_from_who_knows_more(tmp_path: Path) -> None:
    before = Follower(tmp_path, pinned_keys=[FIRST.kid])
    before.control_plane.keys = key_list(FIRST.listed())
    await before.poll(signed(publication(7, shed_level=1)))
    before.clock.advance(600)
    before.control_plane.keys = key_list(FIRST.listed(), SECOND.listed(FIRST))
    blocked = Follower(tmp_path / "prod.checkout.json" / "x", clock=before.clock,
                       pinned_keys=[FIRST.kid])  # fmt: skip
    blocked.control_plane.keys = before.control_plane.keys
    await blocked.poll(signed(publication(8, shed_level=2), SECOND))

    after = Follower(tmp_path, clock=before.clock, pinned_keys=[FIRST.kid])
    after.client.take_over(blocked.client.hand_over())
    after.client.load()

    assert (after.level, after.client.etag, after.client.age_s) == (2, None, 0)
    await after.poll(signed(publication(8, shed_level=2), SECOND))
    assert (after.client.etag, after.client.rejected) == ("8-0-aa", None)
    assert after.control_plane.keys is None


async def test_a_copy_on_disk_of_what_is_in_force_makes_it_no_older(tmp_path: Path) -> None:
    follower = verifier(tmp_path)
    await follower.poll(signed(publication(7, shed_level=1)))
    follower.clock.advance(30)
    await follower.poll(unchanged())

    follower.client.load()

    assert (follower.client.age_s, follower.client.etag, follower.levels) == (0, "7-0-aa", [1])


async def test_without_pinned_keys_it_is_said_once_that_nothing_is_verified(
    caplog: pytest.LogCaptureFixture,
) -> None:
    follower = Follower()
    follower.control_plane.answers = [ok(publication(number)) for number in (7, 8, 9)]

    with caplog.at_level("WARNING", "tidegate"):
        await follower.client.start()
        await follower.client.stop()

    said = [record for record in caplog.records if "no keys are pinned" in record.message]
    assert len(said) == 1


def following(loop: VirtualTimeLoop, plane: StreamingPlane | None = None) -> Following:
    made = Following(loop, plane=plane, pinned_keys=[FIRST.kid])
    made.plane.keys = key_list(FIRST.listed())
    made.plane.sign = FIRST.sign
    return made


def test_the_signature_of_an_event_is_verified() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with following(loop) as client:
            await asyncio.sleep(10)
            client.plane.publish(8, shed_level=2)
            await asyncio.sleep(1)

            assert client.applied == [(0.0, 0), (10.0, 2)]
            assert client.plane.kinds(since_s=10) == ["short"]

    run_virtually(story)


def test_an_event_that_does_not_verify_is_polled_for_before_it_is_refused() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with following(loop) as client:
            await asyncio.sleep(10)
            client.plane.sign = lambda body: None
            client.plane.publish(8, shed_level=2)
            await asyncio.sleep(1)

            assert client.level == 0
            assert client.client.rejected == (
                "8-0-aa",
                "signature: missing, and this client verifies",
            )
            said = client.plane.last("short")
            assert said["tidegate-rejected"].startswith('"8-0-aa"; reason="signature: missing')
            assert len(client.plane.kinds(since_s=10)) == 2

            client.plane.sign = FIRST.sign
            await asyncio.sleep(91)
            assert client.level == 2

    run_virtually(story)


def test_only_the_stream_being_mangled_costs_a_poll_not_the_policy() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with following(loop) as client:
            await asyncio.sleep(10)
            client.plane.pushes = False
            client.plane.publish(8, shed_level=2)
            client.plane.open_streams[0].send(b"event: config\nid: 8\ndata: {}\n\n")
            await asyncio.sleep(1)

            assert client.applied[-1] == (10.0, 2)
            assert client.client.rejected is None

    run_virtually(story)

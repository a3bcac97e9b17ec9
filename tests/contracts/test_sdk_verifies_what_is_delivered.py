"""A client that pins a key, following the real config API while its signing keys change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from controlplane.delivery.domain.jws import PrivateKey
from controlplane.delivery.domain.keyring import AnnouncedKey, Endorsement
from controlplane.delivery.domain.sealing import Seal
from controlplane.delivery.hotpath.asgi import AsgiPlane
from controlplane.delivery.hotpath.keys import PATH, KeysAddress
from controlplane.delivery.hotpath.plane import DeliveryPlane
from controlplane.delivery.services.signing import Signer
from controlplane.policies.domain.schema import builtin_policy
from tests.contracts.asgi_streaming import StreamingAsgiTransport
from tests.delivery.builders import (
    CHECKOUT_TOKEN,
    VirtualTimeLoop,
    make_plane,
    run_virtually,
    snapshot,
)
from tidegate import SAFE_DEFAULTS, PolicyClient
from tidegate.client import Surroundings

SECRET = "a secret for the tests of this file"
FIRST, SECOND, STRANGER = PrivateKey.generate(), PrivateKey.generate(), PrivateKey.generate()

by_each_transport = pytest.mark.parametrize("transport", ["stream", "long_poll"])


class Node:
    """One delivery process in memory that signs, and a client of it that pins `FIRST`."""

    def __init__(
        self, loop: VirtualTimeLoop, transport: str, state_dir: Path | None = None
    ) -> None:
        clock = loop.wall_unix
        self.loop = loop
        self.plane = make_plane(snapshot(7, policy=builtin_policy()), clock=clock)
        address = KeysAddress(clock)
        self.signer = Signer(address, self.plane.store.use_signer, secret=SECRET, clock=clock)
        delivery = DeliveryPlane(self.plane.config, adapters={}, addresses={PATH: address})
        self.delivery = delivery
        self._options: dict[str, Any] = {
            "transport": transport,
            "state_dir": state_dir,
            "pinned_keys": [FIRST.kid],
            "surroundings": Surroundings(
                transport=StreamingAsgiTransport(AsgiPlane(delivery, clock)),
                wall=clock,
                elapsed=loop.time,
                monotonic=loop.time,
                uniform=lambda: 0.5,
                in_thread=_at_once,
            ),
        }
        self.client = self.another_client()

    def another_client(self) -> PolicyClient:
        return PolicyClient(
            "http://tidegate", "prod", "checkout", CHECKOUT_TOKEN, instance_id="a", **self._options
        )

    def sign_with(self, *keys: AnnouncedKey) -> None:
        self.signer.put(keys)

    def publish(self, sequence: int) -> None:
        self.plane.store.swap(snapshot(sequence, policy=builtin_policy()))


async def _at_once(work: Any) -> None:
    work()


def announced(
    key: PrivateKey, at_unix: float = 0.0, endorsers: Sequence[PrivateKey] = ()
) -> AnnouncedKey:
    endorsements = tuple(
        Endorsement(endorser.kid, endorser.endorse(key.x)) for endorser in endorsers
    )
    return AnnouncedKey(key.kid, key.x, at_unix, Seal(SECRET).close(key), endorsements)


@by_each_transport
def test_a_rotation_is_followed_without_a_refusal(transport: str) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        node = Node(loop, transport)
        node.sign_with(announced(FIRST))
        await node.client.start()
        node.sign_with(
            announced(FIRST), announced(SECOND, loop.wall_unix() + 600, endorsers=[FIRST])
        )

        for sequence in range(8, 20):
            await asyncio.sleep(100)
            node.publish(sequence)
            await asyncio.sleep(6)
            assert node.client.sequence == sequence

        assert node.client.signature_failures == 0
        assert node.client.transport == transport
        await node.client.stop()

    run_virtually(story)


@by_each_transport
def test_a_stranger_who_signs_is_refused_and_reported_until_the_right_key_is_back(
    transport: str,
) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        node = Node(loop, transport)
        node.sign_with(announced(FIRST))
        await node.client.start()
        await asyncio.sleep(5)
        node.sign_with(announced(STRANGER))
        node.publish(8)
        before = sum(node.delivery.answer_counts.values())
        await asyncio.sleep(100)

        assert node.client.sequence == 7
        marks = [mark for note in node.plane.reports.take() for mark in note.marks]
        (refused,) = [mark for mark in marks if mark.outcome == "rejected"]
        assert refused.etag == "8-0-9f3c"
        assert refused.reason == f"signature: key {STRANGER.kid} is not trusted"
        assert sum(node.delivery.answer_counts.values()) - before < 40

        node.sign_with(announced(FIRST))
        await asyncio.sleep(95)
        assert node.client.sequence == 8
        assert node.client.rejected is None
        await node.client.stop()

    run_virtually(story)


@by_each_transport
def test_a_node_that_cannot_sign_is_not_believed(transport: str) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        node = Node(loop, transport)

        await node.client.start()
        await asyncio.sleep(30)

        assert node.client.policy is SAFE_DEFAULTS
        assert node.client.rejected == ("7-0-9f3c", "signature: missing, and this client verifies")
        await node.client.stop()

    run_virtually(story)


def test_a_withdrawn_key_is_dropped_and_the_disk_copy_signed_anew(tmp_path: Path) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        node = Node(loop, "stream", tmp_path)
        node.sign_with(announced(FIRST), announced(SECOND, 1.0, endorsers=[FIRST]))
        await node.client.start()
        await asyncio.sleep(5)
        assert node.client.sequence == 7

        node.sign_with(announced(FIRST))
        await asyncio.sleep(3600 + 120)  # with this luck the list of keys is fetched every hour
        assert node.client.etag == "7-0-9f3c"
        await node.client.stop()

        # Whoever has the withdrawn key can say nothing to this client any more.
        node.sign_with(announced(SECOND))
        restarted = node.another_client()
        restarted.load()
        assert restarted.sequence == 7
        await restarted.poll_once()
        node.publish(8)
        await restarted.poll_once()
        assert restarted.sequence == 7
        await restarted.stop()

    run_virtually(story)

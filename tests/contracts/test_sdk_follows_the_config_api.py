"""The SDK's client against the real config API, in one process and in virtual time.

Each story is told twice: by stream and by long-poll.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controlplane.delivery.domain.cohorts import position
from controlplane.policies.domain.schema import builtin_policy
from tests.contracts.asgi_streaming import StreamingAsgiTransport
from tests.delivery.builders import (
    CHECKOUT_TOKEN,
    NEWCOMER_TOKEN,
    Plane,
    VirtualTimeLoop,
    make_plane,
    run_virtually,
    snapshot,
    token_record,
)
from tidegate import PolicyClient
from tidegate.client import Surroundings
from tidegate.credentials import Token


def policy(shed_level: int) -> dict[str, Any]:
    document = copy.deepcopy(builtin_policy())
    document["inbound"]["shedding"]["level"] = shed_level
    return document


class Fleet:
    """One service's clients and the control plane they follow."""

    def __init__(self, loop: VirtualTimeLoop, plane: Plane, transport: str) -> None:
        self._loop = loop
        self._transport = transport
        self.plane = plane
        self.applied: list[tuple[float, int]] = []  # (virtual seconds, shed level)

    def client(
        self,
        service: str = "checkout",
        token: Token = CHECKOUT_TOKEN,
        instance_id: str = "",
        state_dir: Path | None = None,
    ) -> PolicyClient:
        return PolicyClient(
            "http://tidegate",
            "prod",
            service,
            token,
            instance_id=instance_id or f"{service}-1",
            state_dir=state_dir,
            transport=self._transport,
            on_change=[
                lambda policy: self.applied.append(
                    (self._loop.time(), policy.inbound.shedding.level)
                )
            ],
            surroundings=Surroundings(
                transport=StreamingAsgiTransport(self.plane.app),
                wall=self._loop.wall_unix,
                elapsed=self._loop.time,
                monotonic=self._loop.time,
                uniform=lambda: 0.5,
                in_thread=_at_once,
            ),
        )

    def said(self) -> list[tuple[str, str]]:
        """What the instance said of itself since the last look: outcome and tag, in order."""
        marks = [mark for note in self.plane.reports.take() for mark in note.marks]
        return [(mark.outcome, mark.etag) for mark in marks if mark.outcome != "fetched"]


async def _at_once(work: Callable[[], None]) -> None:
    """Virtual time does not wait for threads."""
    work()


def make_fleet(loop: VirtualTimeLoop, transport: str, **first: Any) -> Fleet:
    plane = make_plane(snapshot(7, **first), clock=loop.wall_unix, sends_date=True)
    return Fleet(loop, plane, transport)


by_each_transport = pytest.mark.parametrize("transport", ["stream", "long_poll"])


@by_each_transport
def test_a_publication_reaches_a_waiting_client_at_once_and_is_acknowledged(transport: str) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        fleet = make_fleet(loop, transport, policy=policy(0))
        client = fleet.client()
        await client.start()
        await asyncio.sleep(100)
        assert fleet.said() == [("applied", "7-0-9f3c")]

        fleet.plane.store.swap(snapshot(8, policy=policy(2)))
        await asyncio.sleep(0.01)

        assert fleet.applied == [(0.0, 0), (100.0, 2)]
        assert fleet.said() == [("applied", "8-0-9f3c")]
        assert (client.transport, fleet.plane.config.held_count) == (transport, 1)
        await client.stop()

    run_virtually(story)


@by_each_transport
def test_a_policy_the_client_cannot_apply_is_reported_once_and_polling_stays_calm(
    transport: str,
) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        fleet = make_fleet(loop, transport, policy=policy(1))
        client = fleet.client()
        await client.start()
        await asyncio.sleep(5)
        fleet.said()
        before = sum(fleet.plane.delivery.answer_counts.values())

        fleet.plane.store.swap(snapshot(8, policy={"inbound": {}}))
        await asyncio.sleep(300)

        assert fleet.said() == [("applied", "7-0-9f3c"), ("rejected", "8-0-9f3c")]
        assert client.policy.inbound.shedding.level == 1
        assert sum(fleet.plane.delivery.answer_counts.values()) - before < 15
        fleet.plane.store.swap(snapshot(9, policy=policy(2)))
        await asyncio.sleep(0.01)
        assert client.policy.inbound.shedding.level == 2
        await client.stop()

    run_virtually(story)


@by_each_transport
def test_an_override_ends_on_both_sides_at_once_and_neither_flaps(transport: str) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        fleet = make_fleet(loop, transport, policy=policy(2), scheduled=[(20.0, policy(0))])
        client = fleet.client()
        await client.start()

        await asyncio.sleep(300)

        assert [level for _, level in fleet.applied] == [2, 0]
        assert abs(fleet.applied[1][0] - 20.0) < 0.1
        assert client.etag == "7-1-9f3c"
        assert fleet.said() == [("applied", "7-0-9f3c"), ("applied", "7-1-9f3c")]
        assert sum(fleet.plane.delivery.answer_counts.values()) < 30
        await client.stop()

    run_virtually(story)


@by_each_transport
def test_a_service_that_nobody_registered_obeys_the_fleet_default(transport: str) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        fleet = make_fleet(loop, transport, service="", policy=policy(3))
        client = fleet.client("newcomer", NEWCOMER_TOKEN)

        await client.start()

        assert client.policy.inbound.shedding.level == 3
        await client.stop()

    run_virtually(story)


@by_each_transport
def test_a_draining_server_is_left_and_found_again(transport: str) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        fleet = make_fleet(loop, transport, policy=policy(0))
        client = fleet.client()
        await client.start()
        await asyncio.sleep(5)

        fleet.plane.config.drain()
        await asyncio.sleep(60)
        fleet.plane.store.swap(snapshot(8, policy=policy(1)))
        await asyncio.sleep(11)

        assert client.policy.inbound.shedding.level == 1
        await client.stop()

    run_virtually(story)


@by_each_transport
def test_an_instance_that_restarts_by_another_name_leaves_the_canary(
    transport: str, tmp_path: Path
) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        fleet = make_fleet(loop, transport, policy=policy(1))
        canary = {"cohort": "canary", "ratio": 0.5, "salt": "s"}
        fleet.plane.store.swap(snapshot(8, policy=policy(2), **canary))
        names = [f"checkout-{number}" for number in range(20)]
        inside = next(name for name in names if position("s", name) < 0.5)
        outside = next(name for name in names if position("s", name) >= 0.5)
        first = fleet.client(instance_id=inside, state_dir=tmp_path)
        await first.start()
        await asyncio.sleep(10)
        assert first.policy.inbound.shedding.level == 2
        await first.stop()

        second = fleet.client(instance_id=outside, state_dir=tmp_path)
        await second.start()
        await asyncio.sleep(10)
        assert (second.policy.inbound.shedding.level, second.sequence) == (1, 7)
        assert second.rejected is None
        await second.stop()

    run_virtually(story)


def test_a_stream_is_rotated_often_and_misses_nothing() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        fleet = make_fleet(loop, "auto", policy=policy(0))
        client = fleet.client()
        await client.start()

        for sequence in range(8, 40):
            await asyncio.sleep(297)
            fleet.plane.store.swap(snapshot(sequence, policy=policy(sequence % 3)))
            swapped_s = loop.time()
            await asyncio.sleep(6)
            applied_s, level = fleet.applied[-1]
            assert level == sequence % 3
            assert applied_s - swapped_s <= 5.1  # the longest that a rotation keeps one away

        assert client.transport == "stream"
        await client.stop()

    run_virtually(story)


def test_a_revoked_token_ends_the_stream_and_another_goes_on_with_it() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        fleet = make_fleet(loop, "auto", policy=policy(0))
        token = [CHECKOUT_TOKEN]
        client = fleet.client(token=lambda: token[0])
        await client.start()
        await asyncio.sleep(5)

        other = "tgs_" + "d" * 43
        fleet.plane.tokens.replace([token_record(other, "checkout")])
        fleet.plane.store.wake_all()
        await asyncio.sleep(60)
        assert fleet.plane.config.held_count == 0
        assert client.policy.inbound.shedding.level == 0

        token[0] = other
        fleet.plane.store.swap(snapshot(8, policy=policy(1)))
        await asyncio.sleep(30)
        assert client.policy.inbound.shedding.level == 1
        assert (client.transport, fleet.plane.config.held_count) == ("stream", 1)
        await client.stop()

    run_virtually(story)

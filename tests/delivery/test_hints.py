"""The hint connection: every message counts, every reconnect counts, losing it is survived."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from controlplane.delivery.services.hints import CHANNELS, HintListener
from controlplane.kernel.channels import Channel
from tests.delivery.builders import VirtualTimeLoop, run_virtually

SUBSCRIBED = {"type": "subscribe"}
MESSAGE = {"type": "message"}
PONG = {"type": "pong"}


class FakeValkey:
    """Stands for a client: plays one list of messages per connection, then fails."""

    def __init__(self, *connections: list[Any]) -> None:
        self.connections = list(connections)
        self.pings = 0

    def pubsub(self) -> FakeValkey:
        self.messages = self.connections.pop(0) if self.connections else None
        return self

    async def __aenter__(self) -> FakeValkey:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def subscribe(self, *_: str) -> None:
        if self.messages is None:
            raise RedisConnectionError("refused")

    async def get_message(self, timeout: float) -> Any:
        if not self.messages:
            raise RedisConnectionError("connection lost")
        return self.messages.pop(0)

    async def ping(self) -> None:
        self.pings += 1

    async def aclose(self) -> None:
        return None


async def listen(valkey: FakeValkey, for_s: float) -> tuple[int, HintListener]:
    hints: list[None] = []
    listener = HintListener(lambda: valkey, lambda: hints.append(None))  # type: ignore[arg-type, return-value]
    task = asyncio.create_task(listener.run())
    await asyncio.sleep(for_s)  # virtual
    task.cancel()
    await asyncio.wait([task])
    return len(hints), listener


def test_each_message_and_each_connect_is_a_hint() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        valkey = FakeValkey([SUBSCRIBED, MESSAGE, MESSAGE], [SUBSCRIBED])

        count, _ = await listen(valkey, for_s=5)

        assert count == 4

    run_virtually(story)


def test_whatever_delivery_serves_or_trusts_is_listened_for() -> None:
    assert {Channel.PUBLISHED, Channel.TOKENS, Channel.SIGNING_KEYS} <= set(CHANNELS)


def test_losing_and_finding_the_connection_is_logged_once_each() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        valkey = FakeValkey([SUBSCRIBED])

        with capture_logs() as lines:
            _, listener = await listen(valkey, for_s=60)
        with capture_logs() as later:
            valkey.connections.append([SUBSCRIBED, *[None] * 3])
            listener._connect = lambda: valkey  # type: ignore[assignment, return-value]
            task = asyncio.create_task(listener.run())
            await asyncio.sleep(30)
            task.cancel()
            await asyncio.wait([task])

        assert [line["event"] for line in lines] == ["hints.lost"]
        assert [line["event"] for line in later] == ["hints.back", "hints.lost"]

    run_virtually(story)


def test_a_silent_connection_is_pinged() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        valkey = FakeValkey([SUBSCRIBED, None, PONG, None, PONG])

        await listen(valkey, for_s=0.01)

        assert valkey.pings == 2

    run_virtually(story)


def test_a_connection_that_does_not_answer_a_ping_is_given_up() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        valkey = FakeValkey([SUBSCRIBED, None, None, MESSAGE], [SUBSCRIBED, MESSAGE])

        with capture_logs() as lines:
            hints, _ = await listen(valkey, for_s=0.2)

        assert "no answer to a ping" in lines[0]["error"]
        assert hints == 3  # each connect is one; what came after the silence was never read

    run_virtually(story)

"""Listening for change hints on Valkey or Redis; losing it costs seconds, never a change."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from controlplane.delivery.services.instruments import FEED_FAILURES
from controlplane.kernel.channels import Channel

CONNECT_TIMEOUT_S = 2.0
PING_EVERY_S = 5.0
BACKOFF_MAX_S = 2.0
CHANNELS = (Channel.PUBLISHED, Channel.TOKENS, Channel.SIGNING_KEYS)

logger = structlog.get_logger(__name__)


def connect_to(url: str) -> Redis:
    """Return a client that connects when it is first used, or fails within 2 s."""
    return Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT_S)


class HintListener:
    """Calls `on_hint` for every message, and once after each connect, for what it missed."""

    def __init__(self, connect: Callable[[], Redis], on_hint: Callable[[], None]) -> None:
        self._connect = connect
        self._on_hint = on_hint
        self._was_connected: bool | None = None

    @property
    def is_connected(self) -> bool:
        """True while subscribed."""
        return bool(self._was_connected)

    async def run(self) -> None:
        """Listen until cancelled, reconnecting with backoff and jitter."""
        delay_s = 0.1
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                if self._was_connected is not True:
                    delay_s = min(delay_s * 2, BACKOFF_MAX_S)
                else:
                    delay_s = 0.1
                self._lost(error)
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311

    async def _listen(self) -> None:
        client = self._connect()
        try:
            async with client.pubsub() as subscription:
                await subscription.subscribe(*(channel.value for channel in CHANNELS))
                await self._read(subscription)
        finally:
            await client.aclose()

    async def _read(self, subscription: PubSub) -> None:
        is_asked = False
        while True:
            message = await subscription.get_message(timeout=PING_EVERY_S)
            if message is None:
                # A peer that vanished without a word is only noticed when we speak, and then only
                # by us: the kernel would go on repeating the ping for a quarter of an hour.
                if is_asked:
                    raise RedisConnectionError(f"no answer to a ping within {PING_EVERY_S:g} s")
                is_asked = True
                await subscription.ping()
                continue
            is_asked = False
            if message["type"] == "subscribe":
                self._found()
            elif message["type"] == "message":
                self._on_hint()

    def _found(self) -> None:
        if self._was_connected is False:
            logger.info("hints.back")
        self._was_connected = True
        self._on_hint()

    def _lost(self, error: Exception) -> None:
        FEED_FAILURES.labels("hints").inc()
        if self._was_connected is not False:
            logger.warning("hints.lost", error=str(error))
        self._was_connected = False

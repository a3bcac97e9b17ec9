"""Hints that go out after a commit. None can turn a committed change into an error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

import redis
import structlog
from django.conf import settings
from django.db import transaction
from redis.backoff import NoBackoff
from redis.retry import Retry

from controlplane.kernel.channels import Channel

# A dead Valkey must cost a committed change milliseconds: delivery finds it within 2 s anyway.
HINT_TIMEOUT_S = 0.3

logger = structlog.get_logger(__name__)


def hint_after_commit(channel: Channel, messages: Sequence[Mapping[str, object]]) -> None:
    """Send messages to a channel once the present transaction has committed.

    A Valkey that does not answer is logged, never raised: listeners reconcile by themselves.
    """
    if messages:
        transaction.on_commit(lambda: send_hints(channel, messages), robust=True)


def send_hints(channel: Channel, messages: Sequence[Mapping[str, object]]) -> bool:
    """Send messages to a channel now, in one round trip; return whether they were sent."""
    try:
        pipeline = _client(settings.TIDEGATE.redis_url).pipeline(transaction=False)
        for message in messages:
            pipeline.publish(channel.value, json.dumps(message, separators=(",", ":")))
        pipeline.execute()
    except (redis.RedisError, OSError) as error:
        logger.warning("hint.lost", channel=channel.value, count=len(messages), error=str(error))
        return False
    return True


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=HINT_TIMEOUT_S,
        socket_timeout=HINT_TIMEOUT_S,
        # Once more at once, for a pooled connection that died with the server it was made to.
        # The library's default would go on for seconds.
        retry=Retry(NoBackoff(), retries=1),
    )

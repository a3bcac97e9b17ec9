"""When a failed attempt is tried again, and after what wait.

Pure decisions over a policy; budget, breaker and deadline have their own say. No asyncio here.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tidegate.clock import parse_http_date
from tidegate.outbound_policy import Jitter, RetryMethods, RetryPolicy

# RFC 9110, 9.2.2: what a client may repeat without knowing whether the first one was done.
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})

Random = Callable[[], float]
_random: Random = random.SystemRandom().random


def is_retryable_request(policy: RetryPolicy, method: str, *, has_idempotency_key: bool) -> bool:
    """Whether a request may be sent twice at all."""
    return (
        policy.methods is RetryMethods.ALL
        or has_idempotency_key
        or method.upper() in IDEMPOTENT_METHODS
    )


def backoff_s(policy: RetryPolicy, retry: int, uniform: Random = _random) -> float:
    """The wait before the retry of this number (1 for the first).

    Full jitter: anywhere between nothing and the exponential bound, so that clients that
    failed together do not come back together.
    """
    backoff = policy.backoff
    # The exponent is capped where any multiplier above 1 has long passed every max_ms.
    bound_ms = min(backoff.max_ms, backoff.base_ms * backoff.multiplier ** min(retry - 1, 100))
    share = uniform() if backoff.jitter is Jitter.FULL else 1.0
    return bound_ms * share / 1000.0


def retry_after_s(text: str | None, now_unix_s: float) -> float | None:
    """The wait that a Retry-After header asks for; None when absent or not understood."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    moment_s = parse_http_date(text)
    return None if moment_s is None else max(0.0, moment_s - now_unix_s)


def delay_s(
    policy: RetryPolicy, retry: int, asked_s: float | None, uniform: Random = _random
) -> float:
    """The wait before a retry: our backoff, or what the server asked for if that is longer."""
    own_s = backoff_s(policy, retry, uniform)
    return own_s if asked_s is None else max(own_s, asked_s)

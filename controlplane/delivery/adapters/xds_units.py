"""Numbers of a policy in Envoy's units. Each conversion is one row of docs/adapters/envoy.md."""

from __future__ import annotations

import math

from controlplane.delivery.adapters.xds_route_schema import SHORTEST_FILL_S, TokenBucket
from controlplane.policies.domain.inbound import Rate, TenantRate

LONGEST_FILL_S = 86_400.0
SHORTEST_FILL_MS = round(SHORTEST_FILL_S * 1000)
LEAST_SHARE = 0.99


def seconds(value_s: float) -> str:
    """Return a duration as JSON writes it: 0.25 is "0.25s". Exact to the nanosecond."""
    text = f"{value_s:.9f}".rstrip("0").rstrip(".")
    return f"{text}s"


def milliseconds(value_ms: float) -> str:
    """Return milliseconds as a duration: 250 is "0.25s"."""
    return seconds(value_ms / 1000)


def percent_of(ratio: float) -> float:
    """Return a ratio in percent: 0.1 is 10; without the dust of binary fractions."""
    return round(ratio * 100, 6)


def whole_percent_of(ratio: float) -> int:
    """Return a ratio in whole percent, at least 1: 0.005 is 1, 0.5 is 50."""
    return max(1, round(ratio * 100))


def bucket_of(rate: Rate | TenantRate) -> TokenBucket:
    """Return a rate as a bucket: `burst` tokens, and per_s of them coming back each second.

    Envoy counts whole milliseconds between fills, 50 at the least, and drops the rest: a fill is
    whole tokens each so many milliseconds, close to the rate and never above it: 500/s is 25 tokens
    each 50 ms, 8/s one each 125 ms, 15/s one each 67 ms (14.93/s). A rate of 0 cannot be said: it
    lets one request through a day, and one after each change of the routes.
    """
    if rate.per_s * LONGEST_FILL_S <= 1:
        return TokenBucket(
            max_tokens=max(1, rate.burst) if rate.per_s else 1,
            tokens_per_fill=1,
            fill_interval=seconds(LONGEST_FILL_S),
        )
    tokens, fill_ms = _fill(rate.per_s, rate.burst)
    return TokenBucket(
        max_tokens=rate.burst, tokens_per_fill=tokens, fill_interval=milliseconds(fill_ms)
    )


def _fill(per_s: float, burst: int) -> tuple[int, int]:
    """Return (tokens, milliseconds) of a fill: the first that comes within 1% of the rate.

    The shortest fill, where others hold more than the burst: what overflows is lost. Ends, since
    a whole millisecond more is less than 1% of 100.
    """
    tokens = math.ceil(per_s * SHORTEST_FILL_S)
    shortest: tuple[int, int] | None = None
    while True:
        # Rounded first: a quotient of binary fractions may be a trifle off a whole number.
        fill_ms = max(SHORTEST_FILL_MS, math.ceil(round(tokens / per_s * 1000, 9)))
        tokens = math.floor(round(per_s * fill_ms / 1000, 9))
        shortest = shortest or (tokens, fill_ms)
        if tokens > burst:
            return shortest
        if tokens * 1000 >= LEAST_SHARE * per_s * fill_ms:
            return tokens, fill_ms
        tokens += 1


def retries_at_once(min_per_s: float, attempt_ms: int) -> int:
    """Return how many retries run at once at `min_per_s`, when each takes all of its time-out.

    Envoy bounds retries in flight, not retries per second; by Little's law one is the other
    times how long a retry takes. Rounded up: a floor above 0 never becomes 0.
    """
    return math.ceil(min_per_s * attempt_ms / 1000)

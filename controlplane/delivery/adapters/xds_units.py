"""Numbers of a policy in Envoy's units. Each conversion is one row of docs/adapters/envoy.md."""

from __future__ import annotations

import math

from controlplane.delivery.adapters.xds_route_schema import SHORTEST_FILL_S, TokenBucket
from controlplane.policies.domain.inbound import Rate, TenantRate

LONGEST_FILL_S = 86_400.0


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

    The fill is the smallest whole number of tokens that takes 50 ms or longer, which is the
    shortest Envoy allows: 500/s is 25 tokens each 50 ms, 8/s is one token each 125 ms. A rate of
    0 cannot be said: it lets one request through a day, and one after each change of the routes.
    """
    if rate.per_s * LONGEST_FILL_S <= 1:
        return TokenBucket(
            max_tokens=max(1, rate.burst) if rate.per_s else 1,
            tokens_per_fill=1,
            fill_interval=seconds(LONGEST_FILL_S),
        )
    tokens = max(1, math.ceil(rate.per_s * SHORTEST_FILL_S))
    # Rounded up, so that no rate comes out higher than it was set.
    interval_s = max(SHORTEST_FILL_S, math.ceil(tokens / rate.per_s * 1e9) / 1e9)
    return TokenBucket(
        max_tokens=rate.burst, tokens_per_fill=tokens, fill_interval=seconds(interval_s)
    )


def retries_at_once(min_per_s: float, attempt_ms: int) -> int:
    """Return how many retries run at once at `min_per_s`, when each takes all of its time-out.

    Envoy bounds retries in flight, not retries per second; by Little's law one is the other
    times how long a retry takes. Rounded up: a floor above 0 never becomes 0.
    """
    return math.ceil(min_per_s * attempt_ms / 1000)

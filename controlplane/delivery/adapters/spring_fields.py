"""Which policy field becomes which property of resilience4j, and what becomes of the rest.

The table in docs/adapters/spring-cloud-config.md is written from here
(`python -m controlplane.delivery.adapters.spring_fields`); tests hold the mapping against it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One field: the properties that follow from it (none: it is not mapped), and how or why not.

    `field` is relative to a dependency in `CALL_ROWS` and to the policy in the others.
    `properties` are module and name, such as "circuitbreaker.slidingWindowSize".
    """

    field: str
    properties: tuple[str, ...]
    how: str


_BUDGET = "resilience4j has no retry budget: bound what retries add by maxAttempts"
_LIMIT_BY_TENANT = "resilience4j has no limits by tenant"
_IDEMPOTENCY = "resilience4j keeps no answers by Idempotency-Key"
_DRAIN = "set server.shutdown and spring.lifecycle.timeout-per-shutdown-phase in the application"

CALL_ROWS = (
    Row("timeouts.connect_ms", (), "resilience4j does not connect: set it in the HTTP client"),
    Row("timeouts.attempt_ms", ("timelimiter.timeoutDuration",), "a duration: 600 is 600ms"),
    Row("retry.max_attempts", ("retry.maxAttempts",), "as it is: both count the first attempt"),
    Row(
        "retry.on",
        ("retry.maxAttempts",),
        "an empty list gives maxAttempts 1; otherwise which exceptions are worth another attempt "
        "depends on the HTTP client: set retryExceptions in the application",
    ),
    Row(
        "retry.methods",
        (),
        "resilience4j does not know the HTTP method: put @Retry on what may be repeated only",
    ),
    Row(
        "retry.backoff.base_ms",
        ("retry.waitDuration",),
        "a duration; with full jitter half of it, which resilience4j then spreads by 99% to either "
        "side: anywhere between nothing and the bound. At least 1ms",
    ),
    Row("retry.backoff.multiplier", ("retry.exponentialBackoffMultiplier",), "as it is"),
    Row(
        "retry.backoff.max_ms",
        ("retry.exponentialMaxWaitDuration",),
        "a duration. resilience4j cuts the random wait off there instead of spreading it below: of "
        "the retries that come late enough, half or more wait exactly so long, and come together",
    ),
    Row(
        "retry.backoff.jitter",
        ("retry.enableRandomizedWait", "retry.randomizedWaitFactor", "retry.waitDuration"),
        "full: randomized by 0.99; none: waits exactly the bound",
    ),
    Row("retry.budget.ratio", (), _BUDGET),
    Row("retry.budget.min_per_s", (), _BUDGET),
    Row("retry.budget.window_s", (), _BUDGET),
    Row(
        "breaker.mode",
        ("circuitbreaker.initialState",),
        "auto CLOSED, forced_open FORCED_OPEN, disabled DISABLED, shadow METRICS_ONLY: it records "
        "and lets every call through, but does not say when it would have opened. resilience4j "
        "reads it from 2.4.0 on, and only when it makes the breaker",
    ),
    Row(
        "breaker.window.kind",
        ("circuitbreaker.slidingWindowType",),
        "time TIME_BASED, count COUNT_BASED",
    ),
    Row(
        "breaker.window.size",
        ("circuitbreaker.slidingWindowSize",),
        "as it is: seconds or calls in both",
    ),
    Row("breaker.min_calls", ("circuitbreaker.minimumNumberOfCalls",), "as it is"),
    Row(
        "breaker.failure_rate",
        ("circuitbreaker.failureRateThreshold",),
        "a ratio becomes percent: 0.5 is 50.0",
    ),
    Row("breaker.slow_call_ms", ("circuitbreaker.slowCallDurationThreshold",), "a duration"),
    Row(
        "breaker.slow_call_rate",
        ("circuitbreaker.slowCallRateThreshold",),
        "a ratio becomes percent: 0.8 is 80.0",
    ),
    Row(
        "breaker.open_s",
        ("circuitbreaker.waitDurationInOpenState",),
        "a duration: 0.5 is 500ms",
    ),
    Row(
        "breaker.half_open_calls",
        ("circuitbreaker.permittedNumberOfCallsInHalfOpenState",),
        "as it is",
    ),
)
"""Fields of `outbound.defaults` and of every dependency."""

LIMIT_ROWS = (
    Row("concurrency.max", ("bulkhead.maxConcurrentCalls",), "as it is"),
    Row(
        "concurrency.queue.max",
        ("bulkhead.maxWaitDuration",),
        "0 gives 0ms; more is not mapped: a bulkhead bounds how long calls wait, not how many",
    ),
    Row("concurrency.queue.timeout_ms", ("bulkhead.maxWaitDuration",), "a duration"),
    Row(
        "concurrency.mode",
        ("bulkhead.maxConcurrentCalls",),
        "shadow lifts the limit (2147483647): resilience4j does not count what it would reject",
    ),
    Row(
        "rate.per_s",
        ("ratelimiter.limitForPeriod", "ratelimiter.limitRefreshPeriod"),
        "limitForPeriod is the burst and limitRefreshPeriod the time in which the rate fills it: "
        "500/s with a burst of 100 is 100 per 200ms. 0 becomes 1 per 365d. timeoutDuration is "
        "always 0ms: beyond the limit a call is refused at once",
    ),
    Row(
        "rate.burst",
        ("ratelimiter.limitForPeriod", "ratelimiter.limitRefreshPeriod"),
        "see rate.per_s",
    ),
    Row(
        "rate.mode",
        ("ratelimiter.limitForPeriod",),
        "shadow lifts the limit (2147483647): resilience4j does not count what it would reject",
    ),
    Row("tenants.default.per_s", (), _LIMIT_BY_TENANT),
    Row("tenants.default.burst", (), _LIMIT_BY_TENANT),
    Row("tenants.named.<tenant>.per_s", (), _LIMIT_BY_TENANT),
    Row("tenants.named.<tenant>.burst", (), _LIMIT_BY_TENANT),
    Row("tenants.mode", (), _LIMIT_BY_TENANT),
    Row("deadline_ms", (), "resilience4j knows no deadline of a request: set it in the server"),
)
"""Fields of `inbound` and of every endpoint."""

ENDPOINT_ROWS = (
    Row("criticality", (), "resilience4j does not shed by criticality"),
    Row("idempotency.required", (), _IDEMPOTENCY),
    Row("idempotency.ttl_s", (), _IDEMPOTENCY),
)
"""Fields of endpoints only."""

OWN_ROWS = (
    Row("inbound.shedding.level", ("tidegate.shedding.level",), "for the application to read"),
    Row(
        "inbound.shedding.default_criticality",
        ("tidegate.shedding.default-criticality",),
        "for the application to read",
    ),
    Row(
        "inbound.features.<feature>.enabled",
        ("tidegate.features.<feature>",),
        "true while the feature may run, shed level included",
    ),
    Row(
        "inbound.features.<feature>.off_at_level",
        ("tidegate.features.<feature>",),
        "true while the feature may run, shed level included",
    ),
    Row("lifecycle.drain.not_ready_s", (), _DRAIN),
    Row("lifecycle.drain.timeout_s", (), _DRAIN),
)
"""Fields that are no part of resilience4j."""

_GROUPS = (
    ("`outbound.defaults.` and `outbound.dependencies.<dependency>.`", CALL_ROWS),
    ('`inbound.` and `inbound.endpoints["<endpoint>"].`', LIMIT_ROWS),
    ('`inbound.endpoints["<endpoint>"].`', ENDPOINT_ROWS),
    ("the policy", OWN_ROWS),
)


def list_not_mapped() -> list[str]:
    """Return a sentence for each reason why fields are not mapped, the fields first."""
    reasons: dict[str, list[str]] = {}
    for _, rows in _GROUPS:
        for row in rows:
            if not row.properties:
                reasons.setdefault(row.how, []).append(row.field)
    return [f"{', '.join(fields)}: {how}" for how, fields in reasons.items()]


def table() -> str:
    """Return the table of the documentation, as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for place, rows in _GROUPS:
        yield ""
        yield f"Fields of {place}:"
        yield ""
        yield "| field | property | how |"
        yield "| --- | --- | --- |"
        for row in rows:
            names = ", ".join(f"`{name}`" for name in row.properties) or "not mapped"
            yield f"| `{row.field}` | {names} | {row.how} |"


if __name__ == "__main__":
    sys.stdout.write(table())

"""A policy as properties of resilience4j-spring-boot, as Spring Cloud Config delivers them.

Which field becomes which property is said in `spring_fields`; names with anything but small
letters, digits and dashes stand in brackets, as Spring Boot asks of map keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.delivery.adapters.spring_fields import list_not_mapped

MAX_INTEGER = 2_147_483_647
JITTER_FACTOR = 0.99
INBOUND = "inbound"
"""The bulkhead and the rate limiter of the service as a whole are called this."""

_PLAIN_KEY = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_DAY_NS = 86_400_000_000_000
_LONGEST_PERIOD_NS = 365 * _DAY_NS
_STATES = {
    "auto": "CLOSED",
    "shadow": "METRICS_ONLY",
    "forced_open": "FORCED_OPEN",
    "disabled": "DISABLED",
}
_WINDOWS = {"time": "TIME_BASED", "count": "COUNT_BASED"}

Policy = Mapping[str, Any]
Value = str | int | float | bool
Properties = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose policy it is and which publication it comes from."""

    environment: str
    service: str
    version: int
    sequence: int
    etag: str
    cohort: str


def environment_document(
    source: object, origin: Origin, *, name: str, profiles: Sequence[str], label: str | None
) -> dict[str, Any]:
    """Return the `Environment` of Spring Cloud Config around `list_properties` or its JSON.

    `name`, `profiles` and `label` are as they were asked for. Its `version` is the etag, so that a
    client can tell one policy from the next. `state` stays empty: a client that watches it would
    refresh twice for every change.
    """
    return {
        "name": name,
        "profiles": list(profiles),
        "label": label,
        "version": origin.etag,
        "state": None,
        "propertySources": [
            # Ends with the profile, by which Spring knows that it outranks the plain ones.
            {"name": f"tidegate:{origin.service}-{origin.environment}", "source": source}
        ],
    }


def list_properties(policy: Policy, origin: Origin) -> Properties:
    """Return every property of a complete policy."""
    inbound, outbound = policy["inbound"], policy["outbound"]
    properties = _own(policy, origin)
    _add_limits(properties, INBOUND, inbound)
    for endpoint, limits in inbound["endpoints"].items():
        if "[" not in endpoint and "]" not in endpoint:
            _add_limits(properties, endpoint, limits)
    _add_call(properties, "configs.default", outbound["defaults"])
    for dependency, call in outbound["dependencies"].items():
        _add_call(properties, f"instances{_key(dependency)}", call)
    not_mapped = [*list_not_mapped(), *_unnameable(inbound["endpoints"])]
    for number, sentence in enumerate(not_mapped):
        properties[f"tidegate.not-mapped[{number}]"] = sentence
    return properties


def _own(policy: Policy, origin: Origin) -> Properties:
    shedding = policy["inbound"]["shedding"]
    properties: Properties = {
        "tidegate.environment": origin.environment,
        "tidegate.service": origin.service,
        "tidegate.version": origin.version,
        "tidegate.sequence": origin.sequence,
        "tidegate.etag": origin.etag,
        "tidegate.cohort": origin.cohort,
        "tidegate.shedding.level": shedding["level"],
        "tidegate.shedding.default-criticality": shedding["default_criticality"],
    }
    for name, feature in policy["inbound"]["features"].items():
        off_at_level = feature.get("off_at_level")
        is_shed = off_at_level is not None and shedding["level"] >= off_at_level
        properties[f"tidegate.features{_key(name)}"] = feature["enabled"] and not is_shed
    return properties


def _add_call(properties: Properties, place: str, call: Mapping[str, Any]) -> None:
    """Add what is configured for one dependency; `place` is an instance or the default."""
    timeout = milliseconds(call["timeouts"]["attempt_ms"])
    properties[f"resilience4j.timelimiter.{place}.timeoutDuration"] = timeout
    for name, value in _retry(call["retry"]).items():
        properties[f"resilience4j.retry.{place}.{name}"] = value
    for name, value in _breaker(call["breaker"]).items():
        properties[f"resilience4j.circuitbreaker.{place}.{name}"] = value


def _retry(retry: Mapping[str, Any]) -> Properties:
    backoff = retry["backoff"]
    is_spread = backoff["jitter"] == "full"
    # resilience4j spreads around the wait, Tidegate from nothing up to it: so the middle.
    wait_ms = backoff["base_ms"] / 2 if is_spread else backoff["base_ms"]
    properties: Properties = {
        "maxAttempts": retry["max_attempts"] if retry["on"] else 1,
        # Below 1 ms resilience4j refuses to start.
        "waitDuration": milliseconds(max(1, math.ceil(wait_ms))),
        "enableExponentialBackoff": True,
        "exponentialBackoffMultiplier": float(backoff["multiplier"]),
        "exponentialMaxWaitDuration": milliseconds(backoff["max_ms"]),
        "enableRandomizedWait": is_spread,
    }
    if is_spread:
        properties["randomizedWaitFactor"] = JITTER_FACTOR
    return properties


def _breaker(breaker: Mapping[str, Any]) -> Properties:
    return {
        "slidingWindowType": _WINDOWS[breaker["window"]["kind"]],
        "slidingWindowSize": breaker["window"]["size"],
        "minimumNumberOfCalls": breaker["min_calls"],
        "failureRateThreshold": percent(breaker["failure_rate"]),
        "slowCallRateThreshold": percent(breaker["slow_call_rate"]),
        "slowCallDurationThreshold": milliseconds(breaker["slow_call_ms"]),
        "waitDurationInOpenState": milliseconds(breaker["open_s"] * 1000),
        "permittedNumberOfCallsInHalfOpenState": breaker["half_open_calls"],
        "initialState": _STATES[breaker["mode"]],
    }


def _add_limits(properties: Properties, name: str, limits: Mapping[str, Any]) -> None:
    """Add the bulkhead and the rate limiter of the service or an endpoint, where it has them."""
    place = f"instances{_key(name)}"
    concurrency, rate = limits.get("concurrency"), limits.get("rate")
    if concurrency is not None:
        for key, value in _bulkhead(concurrency).items():
            properties[f"resilience4j.bulkhead.{place}.{key}"] = value
    if rate is not None:
        for key, value in _rate_limiter(rate).items():
            properties[f"resilience4j.ratelimiter.{place}.{key}"] = value


def _bulkhead(concurrency: Mapping[str, Any]) -> Properties:
    queue = concurrency["queue"]
    return {
        "maxConcurrentCalls": MAX_INTEGER if _is_shadow(concurrency) else concurrency["max"],
        "maxWaitDuration": milliseconds(queue["timeout_ms"] if queue["max"] else 0),
    }


def _rate_limiter(rate: Mapping[str, Any]) -> Properties:
    per_s, burst = rate["per_s"], rate["burst"]
    limit, period_ns = 1, _LONGEST_PERIOD_NS
    if per_s > 0:
        limit, period_ns = burst, max(1, round(burst / per_s * 1e9))
    return {
        "limitForPeriod": MAX_INTEGER if _is_shadow(rate) else limit,
        # Never left out: the default of 500 ns is no limit at all.
        "limitRefreshPeriod": nanoseconds(min(period_ns, _LONGEST_PERIOD_NS)),
        "timeoutDuration": milliseconds(0),
    }


def _is_shadow(limit: Mapping[str, Any]) -> bool:
    return bool(limit.get("mode", "enforce") == "shadow")


def milliseconds(value_ms: float) -> str:
    """Return a duration as Spring Boot reads it: whole milliseconds, at least one if not none."""
    return f"{max(1, round(value_ms)) if value_ms > 0 else 0}ms"


def nanoseconds(value_ns: int) -> str:
    """Return a duration in the largest unit that needs no fraction."""
    units = (("d", _DAY_NS), ("s", 10**9), ("ms", 10**6), ("us", 10**3))
    for unit, length_ns in units:
        if value_ns % length_ns == 0:
            return f"{value_ns // length_ns}{unit}"
    return f"{value_ns}ns"


def percent(ratio: float) -> float:
    """Return a ratio as resilience4j wants it: 0.5 is 50.0, 0.07 is 7.0."""
    return round(ratio * 100, 6)


def _key(name: str) -> str:
    """Return a name as the key of a map in a property: `.payments`, `[payments.eu]`."""
    return f".{name}" if _PLAIN_KEY.fullmatch(name) else f"[{name}]"


def _unnameable(endpoints: Mapping[str, Any]) -> list[str]:
    return [
        f"inbound.endpoints: {endpoint} has brackets in its route, which no property can name"
        for endpoint in endpoints
        if "[" in endpoint or "]" in endpoint
    ]

"""The metrics the Tidegate SDK exports (RED as OpenTelemetry names it), as fleet-wide queries.

Each query asks for every service at once, so their number never depends on how many there are.
Counters born between two scrapes lose what they counted before the first one: `rate` and
`increase` cannot know it. Quiet services may therefore show slightly too few errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

from controlplane.telemetry.domain.promql import (
    Aggregation,
    Expression,
    Matcher,
    aggregate,
    any_of,
    equal,
    highest,
    increase,
    matching,
    not_matching,
    rate,
    select,
    sum_by,
)

ENVIRONMENT, SERVICE, INSTANCE = "environment", "service", "instance"
METHOD, ROUTE = "http_request_method", "http_route"
STATUS = "http_response_status_code"
DEPENDENCY, OUTCOME, REASON, STATE, TENANT = "dependency", "outcome", "reason", "state", "tenant"
LE = "le"

SERVER = "http_server_request_duration_seconds"
# An absent status matches the empty string: no response was sent, which is an error too.
SERVER_FAULT = "5..|"
ATTEMPT = "tidegate_client_attempt_duration_seconds"
QUEUE_WAIT = "tidegate_queue_wait_seconds"

# What the SDK's transport says of attempts and requests.
GOOD_OUTCOMES = frozenset({"success"})
NEUTRAL_OUTCOMES = frozenset({"cancelled", "mistake", "no_connection"})  # the caller's own doing
# Never sent: such a request cannot amplify, and counting it would hide amplification.
UNSENT_OUTCOMES = frozenset({"breaker_open"})
REFUSED_OUTCOMES = frozenset({"rejected"})  # calls that a breaker did not let through
LIMITED_OUTCOMES = frozenset({"limited"})  # beyond the tenant's own rate

SLOW_ATTEMPT_S = 1.0
BUCKET_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class Reading(StrEnum):
    """One query of the dialect: what it measures, for every service at once."""

    REQUESTS = "requests"
    ERRORS = "errors"
    LATENCY = "latency"
    CLIENT_REQUESTS = "client_requests"
    CLIENT_ATTEMPTS = "client_attempts"
    ATTEMPT_LATENCY = "attempt_latency"
    BUDGET_EXHAUSTED = "budget_exhausted"
    BREAKER_STATES = "breaker_states"
    BREAKER_CALLS = "breaker_calls"
    REJECTED = "rejected"
    WOULD_REJECT = "would_reject"
    TENANTS = "tenants"
    INFLIGHT = "inflight"
    QUEUE_DEPTH = "queue_depth"
    QUEUE_WAIT = "queue_wait"
    READY = "ready"
    INSTANCES = "instances"
    CONFIG_SEQUENCE = "config_sequence"


_COUNTERS: Mapping[Reading, tuple[str, tuple[str, ...]]] = {
    Reading.REQUESTS: (SERVER + "_count", (SERVICE, METHOD, ROUTE)),
    Reading.LATENCY: (SERVER + "_bucket", (SERVICE, METHOD, ROUTE, LE)),
    Reading.CLIENT_REQUESTS: (
        "tidegate_client_requests_total",
        (SERVICE, DEPENDENCY, OUTCOME),
    ),
    Reading.CLIENT_ATTEMPTS: (
        "tidegate_client_attempts_total",
        (SERVICE, DEPENDENCY, OUTCOME),
    ),
    Reading.ATTEMPT_LATENCY: (ATTEMPT + "_bucket", (SERVICE, DEPENDENCY, LE)),
    Reading.BUDGET_EXHAUSTED: (
        "tidegate_client_retry_budget_exhausted_total",
        (SERVICE, DEPENDENCY),
    ),
    Reading.BREAKER_CALLS: ("tidegate_breaker_calls_total", (SERVICE, DEPENDENCY, OUTCOME)),
    Reading.REJECTED: ("tidegate_rejected_total", (SERVICE, REASON, ROUTE)),
    Reading.WOULD_REJECT: ("tidegate_would_reject_total", (SERVICE, REASON, ROUTE)),
    Reading.TENANTS: ("tidegate_tenant_requests_total", (SERVICE, TENANT, OUTCOME)),
    Reading.QUEUE_WAIT: (QUEUE_WAIT + "_bucket", (SERVICE, LE)),
}
_GAUGES: Mapping[Reading, tuple[str, Aggregation, tuple[str, ...]]] = {
    Reading.BREAKER_STATES: (
        "tidegate_breaker_state",
        Aggregation.SUM,
        (SERVICE, DEPENDENCY, STATE),
    ),
    Reading.INFLIGHT: ("tidegate_inflight", Aggregation.SUM, (SERVICE,)),
    Reading.QUEUE_DEPTH: ("tidegate_queue_depth", Aggregation.SUM, (SERVICE,)),
    Reading.READY: ("tidegate_ready", Aggregation.SUM, (SERVICE,)),
    Reading.INSTANCES: ("tidegate_ready", Aggregation.COUNT, (SERVICE,)),
    # The lowest: the sequence that every instance has reached.
    Reading.CONFIG_SEQUENCE: ("tidegate_config_sequence", Aggregation.MIN, (SERVICE,)),
}


def reading_query(
    reading: Reading, environment: str, window_s: int, *matchers: Matcher
) -> Expression:
    """Return the query of one reading, for the whole environment unless `matchers` narrow it."""
    scope = (equal(ENVIRONMENT, environment), *matchers)
    if reading is Reading.ERRORS:
        faults = select(SERVER + "_count", *scope, matching(STATUS, SERVER_FAULT))
        return sum_by((SERVICE, METHOD, ROUTE), rate(faults, window_s))
    if reading in _COUNTERS:
        metric, labels = _COUNTERS[reading]
        return sum_by(labels, rate(select(metric, *scope), window_s))
    metric, how, labels = _GAUGES[reading]
    return aggregate(how, labels, select(metric, *scope))


def fleet_queries(environment: str, window_s: int) -> dict[Reading, Expression]:
    """Return every query of one tick of the collector."""
    return {reading: reading_query(reading, environment, window_s) for reading in Reading}


def history_queries(environment: str, window_s: int) -> tuple[Expression, Expression]:
    """Return the queries of requests and of errors per service, for sparklines."""
    scope = equal(ENVIRONMENT, environment)
    total = select(SERVER + "_count", scope)
    faults = select(SERVER + "_count", scope, matching(STATUS, SERVER_FAULT))
    return (
        sum_by((SERVICE,), rate(total, window_s)),
        sum_by((SERVICE,), rate(faults, window_s)),
    )


def status_query(environment: str, window_s: int, *matchers: Matcher) -> Expression:
    """Return the rate of requests by status code."""
    selected = select(SERVER + "_count", equal(ENVIRONMENT, environment), *matchers)
    return sum_by((SERVICE, STATUS), rate(selected, window_s))


def latency_query(environment: str, window_s: int, *matchers: Matcher) -> Expression:
    """Return the rate of requests by `le` per service, all endpoints together."""
    selected = select(SERVER + "_bucket", equal(ENVIRONMENT, environment), *matchers)
    return sum_by((SERVICE, LE), rate(selected, window_s))


def breaker_queries(
    environment: str, window_s: int, *matchers: Matcher
) -> tuple[Expression, Expression]:
    """Return, per breaker: instances that were in each state within the window, and instances.

    The highest value of the window catches a breaker that was open between two points.
    """
    scope = (equal(ENVIRONMENT, environment), *matchers)
    metric = "tidegate_breaker_state"
    closed = select(metric, *scope, equal(STATE, "closed"))
    return (
        sum_by((SERVICE, DEPENDENCY, STATE), highest(select(metric, *scope), window_s)),
        aggregate(Aggregation.COUNT, (SERVICE, DEPENDENCY), closed),
    )


def of_service(service: str) -> Matcher:
    """Narrow a query to one service."""
    return equal(SERVICE, service)


def of_dependency(dependency: str) -> Matcher:
    """Narrow a query to calls of one dependency, whoever makes them."""
    return equal(DEPENDENCY, dependency)


def of_edges(edges: Iterable[tuple[str, str]]) -> tuple[Matcher, Matcher]:
    """Narrow a query to callers and dependency names; may let a few other edges through."""
    pairs = sorted(edges)
    return (
        any_of(SERVICE, sorted({caller for caller, _ in pairs})),
        any_of(DEPENDENCY, sorted({name for _, name in pairs})),
    )


def increase_queries(
    environment: str, window_s: int, bounds_s: Iterable[float]
) -> tuple[Expression, Expression, Expression]:
    """Return counts per service for objectives: all requests, faults, and fast answers by `le`.

    Fast answers leave server faults out: an error that comes quickly has not served anybody.
    """
    scope = equal(ENVIRONMENT, environment)
    total = select(SERVER + "_count", scope)
    faults = select(SERVER + "_count", scope, matching(STATUS, SERVER_FAULT))
    fast = select(
        SERVER + "_bucket",
        scope,
        not_matching(STATUS, SERVER_FAULT),
        matching(LE, le_pattern(bounds_s)),
    )
    return (
        sum_by((SERVICE,), increase(total, window_s)),
        sum_by((SERVICE,), increase(faults, window_s)),
        sum_by((SERVICE, LE), increase(fast, window_s)),
    )


def le_pattern(bounds_s: Iterable[float]) -> str:
    """Match every way an exporter may write these bounds: Prometheus 3 has "1.0" for "1"."""
    return "|".join(_le_text(bound_s) for bound_s in sorted(set(bounds_s)))


def _le_text(bound_s: float) -> str:
    whole, _, decimals = format(bound_s, ".10f").partition(".")
    decimals = decimals.rstrip("0")
    if not decimals:
        return re.escape(whole) + "(\\.0+)?"
    return re.escape(whole) + "\\." + decimals + "0*"

"""The logical signals, each with its title and unit, and how each may be broken down."""

from __future__ import annotations

from enum import StrEnum


class Breakdown(StrEnum):
    """What one chart may draw a line per."""

    STATUS_CLASS = "status_class"
    ENDPOINT = "endpoint"
    DEPENDENCY = "dependency"
    REASON = "reason"
    TENANT = "tenant"


class Signal(StrEnum):
    """One logical measurement of one service over time."""

    # A heading for people; hides str.title, which no reader of a signal wants.
    title: str  # type: ignore[assignment]
    unit: str
    breakdowns: frozenset[Breakdown]

    def __new__(
        cls, value: str, title: str, unit: str, breakdowns: tuple[Breakdown, ...] = ()
    ) -> Signal:
        """Make a member that is its own name, with what people need beside it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.title = title
        member.unit = unit
        member.breakdowns = frozenset(breakdowns)
        return member

    RATE = ("rate", "Requests", "requests/s", (Breakdown.STATUS_CLASS, Breakdown.ENDPOINT))
    ERROR_RATIO = ("error_ratio", "Error ratio", "ratio", (Breakdown.ENDPOINT,))
    LATENCY = ("latency", "Latency: p50, p95, p99", "seconds")
    P50 = ("p50", "Median latency", "seconds", (Breakdown.ENDPOINT,))
    P95 = ("p95", "95th percentile of latency", "seconds", (Breakdown.ENDPOINT,))
    P99 = ("p99", "99th percentile of latency", "seconds", (Breakdown.ENDPOINT,))
    ATTEMPTS_PER_REQUEST = (
        "attempts_per_request",
        "Attempts per request, outbound",
        "attempts/request",
        (Breakdown.DEPENDENCY,),
    )
    ATTEMPTS_RECEIVED = (
        "attempts_received_per_request",
        "Attempts per request, as callers send them here",
        "attempts/request",
    )
    DEPENDENCY_LATENCY = (
        "dependency_latency",
        "95th percentile of attempts to dependencies",
        "seconds",
        (Breakdown.DEPENDENCY,),
    )
    REJECTED = ("rejected", "Rejected requests", "requests/s", (Breakdown.REASON,))
    WOULD_REJECT = (
        "would_reject",
        "Requests that shadow limits would reject",
        "requests/s",
        (Breakdown.REASON,),
    )
    TENANTS = ("tenants", "Requests by tenant", "requests/s", (Breakdown.TENANT,))
    INFLIGHT = ("inflight", "Requests in flight", "requests")
    QUEUE_DEPTH = ("queue_depth", "Requests queued", "requests")
    QUEUE_WAIT = ("queue_wait", "95th percentile of time queued", "seconds")


class BreakerState(StrEnum):
    """What a breaker does with the next call, from best to worst for the caller."""

    CLOSED = "closed"
    DISABLED = "disabled"
    HALF_OPEN = "half_open"
    OPEN = "open"
    FORCED_OPEN = "forced_open"


def worst_state(instances_by_state: dict[str, int]) -> BreakerState | None:
    """The worst state that any instance is in; None when nobody reports one."""
    held = [state for state in BreakerState if instances_by_state.get(state, 0) > 0]
    return held[-1] if held else None

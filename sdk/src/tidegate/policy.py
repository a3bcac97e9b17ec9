"""The delivered `tidegate/v1` policy as frozen values, and the check a client makes before trust.

Field names are those of the document, units included. Limits are per instance: each process
enforces the whole number itself. The control plane validates far more; what is checked here is
what this process would misbehave on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.document import Block
from tidegate.inbound_policy import (
    ConcurrencyPolicy,
    Criticality,
    EndpointPolicy,
    FeaturePolicy,
    IdempotencyPolicy,
    InboundPolicy,
    Mode,
    QueuePolicy,
    RatePolicy,
    SheddingPolicy,
    TenantsPolicy,
    read_inbound,
)
from tidegate.outbound_policy import (
    BackoffPolicy,
    BreakerMode,
    BreakerPolicy,
    BudgetPolicy,
    DependencyPolicy,
    Jitter,
    OutboundPolicy,
    RetryMethods,
    RetryPolicy,
    TimeoutsPolicy,
    WindowKind,
    WindowPolicy,
    read_outbound,
)

__all__ = [
    "SAFE_DEFAULTS",
    "BackoffPolicy",
    "BreakerMode",
    "BreakerPolicy",
    "BudgetPolicy",
    "ConcurrencyPolicy",
    "Criticality",
    "DependencyPolicy",
    "DrainPolicy",
    "EndpointPolicy",
    "FeaturePolicy",
    "IdempotencyPolicy",
    "InboundPolicy",
    "Jitter",
    "LifecyclePolicy",
    "Mode",
    "OutboundPolicy",
    "Policy",
    "QueuePolicy",
    "RatePolicy",
    "RetryMethods",
    "RetryPolicy",
    "SheddingPolicy",
    "TenantsPolicy",
    "TimeoutsPolicy",
    "WindowKind",
    "WindowPolicy",
    "parse_policy",
]


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """How an instance leaves: not ready for `not_ready_s`, then at most `timeout_s` to finish."""

    not_ready_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """How an instance comes and goes."""

    drain: DrainPolicy


@dataclass(frozen=True, slots=True)
class Policy:
    """One complete effective policy."""

    inbound: InboundPolicy
    outbound: OutboundPolicy
    lifecycle: LifecyclePolicy


def parse_policy(document: Mapping[str, object]) -> Policy:
    """Return a delivered policy as values.

    Raises:
        PolicyRejected: something this client would have to trust is missing or out of range.
    """
    root = Block(document)
    return Policy(
        inbound=root.block("inbound", read_inbound),
        outbound=root.block("outbound", read_outbound),
        lifecycle=root.block(
            "lifecycle", lambda block: LifecyclePolicy(block.block("drain", _drain))
        ),
    )


def _drain(block: Block) -> DrainPolicy:
    return DrainPolicy(
        not_ready_s=block.number("not_ready_s", 0, 86_400),
        timeout_s=block.number("timeout_s", 0, 86_400),
    )


SAFE_DEFAULTS = parse_policy(
    {
        "inbound": {
            "deadline_ms": 3000,
            "concurrency": {"max": 200, "queue": {"max": 50, "timeout_ms": 100}},
            "rate": {"per_s": 1000, "burst": 200},
            "tenants": {"default": None, "named": {}},
            "shedding": {"level": 0, "default_criticality": "critical"},
        },
        "outbound": {
            "defaults": {
                "timeouts": {"connect_ms": 250, "attempt_ms": 1000},
                "retry": {
                    "max_attempts": 3,
                    "on": ["connect_error", "timeout", "503"],
                    "methods": "idempotent",
                    "backoff": {"base_ms": 50, "multiplier": 2.0, "max_ms": 2000, "jitter": "full"},
                    "budget": {"ratio": 0.10, "min_per_s": 1, "window_s": 10},
                },
                "breaker": {
                    "mode": "auto",
                    "window": {"kind": "time", "size": 30},
                    "min_calls": 20,
                    "failure_rate": 0.5,
                    "slow_call_ms": 1000,
                    "slow_call_rate": 0.8,
                    "open_s": 15,
                    "half_open_calls": 5,
                },
            }
        },
        "lifecycle": {"drain": {"not_ready_s": 5, "timeout_s": 30}},
    }
)

"""Which policy fields the Tune page shows, in which section and group, and in which order.

What each field is called, its unit, range and help come from the policy schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.policies.domain.resolve import Resolved
from controlplane.telemetry.domain.picture import ServiceSignals
from dashboards.presenters.live import dependency_summary

Parts = tuple[str, ...]

SECTIONS = (
    ("shedding", "Shedding"),
    ("limits", "Limits"),
    ("tenants", "Tenants"),
    ("endpoints", "Endpoints"),
    ("retries", "Retries"),
    ("breakers", "Breakers"),
    ("timeouts", "Timeouts"),
)

_SHEDDING: tuple[Parts, ...] = (
    ("inbound", "shedding", "level"),
    ("inbound", "shedding", "default_criticality"),
)
_RATE: tuple[Parts, ...] = (
    ("inbound", "rate", "per_s"),
    ("inbound", "rate", "burst"),
    ("inbound", "rate", "mode"),
)
_CONCURRENCY: tuple[Parts, ...] = (
    ("inbound", "concurrency", "max"),
    ("inbound", "concurrency", "queue", "max"),
    ("inbound", "concurrency", "queue", "timeout_ms"),
    ("inbound", "concurrency", "mode"),
)
_LIMIT: tuple[Parts, ...] = (("per_s",), ("burst",))
_ENDPOINT: tuple[Parts, ...] = (
    ("criticality",),
    ("rate", "per_s"),
    ("rate", "burst"),
    ("deadline_ms",),
)
_RETRIES: tuple[Parts, ...] = (
    ("retry", "budget", "ratio"),
    ("retry", "max_attempts"),
    ("retry", "backoff", "base_ms"),
    ("retry", "backoff", "multiplier"),
    ("retry", "backoff", "max_ms"),
    ("retry", "budget", "min_per_s"),
    ("retry", "methods"),
)
_BREAKERS: tuple[Parts, ...] = (
    ("breaker", "mode"),
    ("breaker", "failure_rate"),
    ("breaker", "slow_call_rate"),
    ("breaker", "slow_call_ms"),
    ("breaker", "min_calls"),
    ("breaker", "window", "kind"),
    ("breaker", "window", "size"),
    ("breaker", "open_s"),
    ("breaker", "half_open_calls"),
)
_TIMEOUTS: tuple[Parts, ...] = (("timeouts", "attempt_ms"), ("timeouts", "connect_ms"))


@dataclass(frozen=True, slots=True)
class GroupLayout:
    """Fields that belong together, under one heading."""

    title: str
    note: str
    paths: tuple[Parts, ...]


def groups_of(
    section: str, resolved: Resolved, names: Names, signals: ServiceSignals
) -> tuple[GroupLayout, ...]:
    """The groups of one section, for this service as it is now."""
    inbound: Mapping[str, Any] = resolved.policy["inbound"]
    if section == "shedding":
        return (GroupLayout("Load shedding", "", _SHEDDING), *_features(inbound))
    if section == "limits":
        return (
            GroupLayout("Rate", "beyond it: 429 with Retry-After", _RATE),
            GroupLayout("Concurrency and queue", "beyond both: 503 with Retry-After", _CONCURRENCY),
        )
    if section == "tenants":
        return _tenants(inbound)
    if section == "endpoints":
        return tuple(
            GroupLayout(name, "", _under(("inbound", "endpoints", name), _ENDPOINT))
            for name in names.endpoints
        )
    own = {"retries": _RETRIES, "breakers": _BREAKERS, "timeouts": _TIMEOUTS}[section]
    groups = tuple(
        GroupLayout(
            f"to {name}",
            dependency_summary(signals.dependencies.get(name)),
            _under(("outbound", "dependencies", name), own),
        )
        for name in names.dependencies
    )
    if section == "timeouts":
        return (GroupLayout("Requests to this service", "", (("inbound", "deadline_ms"),)), *groups)
    return groups


@dataclass(frozen=True, slots=True)
class Names:
    """The endpoints and dependencies to show: registered, measured or in the policy."""

    endpoints: tuple[str, ...]
    dependencies: tuple[str, ...]


def _under(prefix: Parts, fields: Sequence[Parts]) -> tuple[Parts, ...]:
    return tuple(prefix + field for field in fields)


def _features(inbound: Mapping[str, Any]) -> tuple[GroupLayout, ...]:
    features = inbound.get("features") or {}
    return tuple(
        GroupLayout(
            f"Feature {name}",
            "degraded before requests are shed",
            _under(("inbound", "features", name), (("enabled",), ("off_at_level",))),
        )
        for name in features
    )


def _tenants(inbound: Mapping[str, Any]) -> tuple[GroupLayout, ...]:
    named = inbound["tenants"].get("named") or {}
    default = GroupLayout(
        "Every other tenant",
        "empty both to remove the limit",
        (*_under(("inbound", "tenants", "default"), _LIMIT), ("inbound", "tenants", "mode")),
    )
    return (
        *(
            GroupLayout(
                f"Tenant {name}",
                "empty both to remove the limit",
                _under(("inbound", "tenants", "named", name), _LIMIT),
            )
            for name in named
        ),
        default,
    )

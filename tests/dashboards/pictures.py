"""Fleet pictures for pages: one healthy service by default, each figure replaceable."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.cache import cache

from controlplane.telemetry.domain.picture import (
    DependencySignals,
    EndpointSignals,
    FleetPicture,
    ServiceSignals,
    TenantSignals,
    picture_to_json,
)
from controlplane.telemetry.domain.quantiles import Quantile
from controlplane.telemetry.domain.status import CollectorStatus, status_to_json
from controlplane.telemetry.selectors import picture_key, status_key


def calls(**changes: Any) -> DependencySignals:
    figures: dict[str, Any] = {
        "rate_per_s": 10.0,
        "attempts_per_s": 10.1,
        "attempts_per_request": 1.01,
        "failure_ratio": 0.001,
        "slow_ratio": 0.0,
        "p95": Quantile(0.06),
        "p99": Quantile(0.11),
        "breaker_states": {"closed": 3},
    }
    return DependencySignals(**figures | changes)


def storm() -> DependencySignals:
    return calls(
        attempts_per_s=23.1, attempts_per_request=2.31, failure_ratio=0.71,
        p99=Quantile(2.9), breaker_states={"open": 2, "half_open": 1},
    )  # fmt: skip


def healthy(**changes: Any) -> ServiceSignals:
    figures: dict[str, Any] = {
        "rate_per_s": 12.0,
        "error_ratio": 0.0,
        "p50": Quantile(0.02),
        "p95": Quantile(0.04),
        "p99": Quantile(0.09),
        "shed_ratio": 0.0,
        "inflight": 4.0,
        "queue_depth": 0.0,
        "instances_ready": 3,
        "instances_reporting": 3,
        "rate_history": (10.0, 11.0, None, 12.0),
        "error_history": (0.0, 0.0, None, 0.0),
        "endpoints": {"POST /orders": EndpointSignals(12.0, 0.0, Quantile(0.02), Quantile(0.04))},
        "tenants": {"acme": TenantSignals(6.5, 0.0)},
    }
    return ServiceSignals(**figures | changes)


def show(
    now: datetime,
    services: dict[str, ServiceSignals],
    *,
    age_s: float = 2,
    failing: str = "",
    problems: tuple[str, ...] = (),
) -> None:
    """Put a picture into the shared cache, as the collector would."""
    taken_at = now.timestamp() - age_s
    picture = FleetPicture(
        environment="prod",
        taken_at=taken_at,
        collected_at=taken_at,
        interval_s=5,
        window_s=60,
        services=services,
        problems=problems,
        history_end=taken_at,
        history_step_s=30,
    )
    status = CollectorStatus(
        attempted_at=now.timestamp(),
        taken_at=taken_at,
        collected_at=taken_at,
        failing_since=taken_at if failing else None,
        reason=failing,
    )
    cache.set(picture_key("prod"), picture_to_json(picture))
    cache.set(status_key("prod"), status_to_json(status))

"""Define what a service promises."""

from __future__ import annotations

from datetime import datetime

from controlplane.registry.models import Service
from controlplane.slo.domain.objective import Kind, check_objective
from controlplane.slo.models import Objective
from controlplane.telemetry.domain.dialects.native import BUCKET_BOUNDS_S

DEFAULT_AVAILABILITY = 0.999
DEFAULT_LATENCY = 0.99
DEFAULT_THRESHOLD_MS = 500.0


def ensure_default_objectives(service: Service, now: datetime) -> list[Objective]:
    """Return the objectives of `service`, with the default for each kind it does not have yet.

    The defaults: 99.9% without a server fault, 99% of what is served within 500 ms.
    """
    return [
        _ensure(service, Kind.AVAILABILITY, DEFAULT_AVAILABILITY, None, now),
        _ensure(service, Kind.LATENCY, DEFAULT_LATENCY, DEFAULT_THRESHOLD_MS, now),
    ]


def set_objective(
    *,
    service: Service,
    kind: Kind,
    target: float,
    threshold_ms: float | None = None,
    window_days: int = 30,
    now: datetime,
) -> Objective:
    """Make `kind` of `service` promise this from now on.

    Counts of another threshold say nothing about this one: they are dropped with it.

    Raises:
        InvalidInput: nothing can measure it; the sentence names the field.
    """
    check_objective(
        kind,
        target=target,
        threshold_ms=threshold_ms,
        window_days=window_days,
        bounds_s=BUCKET_BOUNDS_S,
    )
    objective, created = Objective.objects.get_or_create(
        service=service,
        kind=kind.value,
        defaults={
            "target": target,
            "threshold_ms": threshold_ms,
            "window_days": window_days,
            "created_at": now,
        },
    )
    if created:
        return objective
    if objective.threshold_ms != threshold_ms:
        objective.slices.all().delete()
    objective.target, objective.threshold_ms = target, threshold_ms
    objective.window_days = window_days
    objective.save(update_fields=["target", "threshold_ms", "window_days"])
    return objective


def _ensure(
    service: Service, kind: Kind, target: float, threshold_ms: float | None, now: datetime
) -> Objective:
    objective, _ = Objective.objects.get_or_create(
        service=service,
        kind=kind.value,
        defaults={"target": target, "threshold_ms": threshold_ms, "created_at": now},
    )
    return objective

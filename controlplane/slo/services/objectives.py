"""Define what a service promises."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from controlplane.access.domain.actors import Actor
from controlplane.access.services import audit
from controlplane.registry.models import Environment, Service
from controlplane.slo.domain.objective import Kind, check_objective
from controlplane.slo.models import Objective
from controlplane.telemetry.domain.dialects.native import BUCKET_BOUNDS_S

DEFAULT_AVAILABILITY = 0.999
DEFAULT_LATENCY = 0.99
DEFAULT_THRESHOLD_MS = 500.0
_DEFAULTS = (
    (Kind.AVAILABILITY, DEFAULT_AVAILABILITY, None),
    (Kind.LATENCY, DEFAULT_LATENCY, DEFAULT_THRESHOLD_MS),
)


def ensure_default_objectives(service: Service, now: datetime) -> list[Objective]:
    """Return the objectives of `service`, with the default for each kind it does not have yet.

    The defaults: 99.9% without a server fault, 99% of what is served within 500 ms.
    """
    return [
        _ensure(service, kind, target, threshold_ms, now)
        for kind, target, threshold_ms in _DEFAULTS
    ]


def ensure_fleet_objectives(environment: Environment, now: datetime) -> int:
    """Give each service that has no objective at all the default ones; return how many it made.

    Three queries at most, whatever the number of services. A service whose team has decided on
    any objective keeps exactly what it has.
    """
    bare = list(environment.services.filter(objectives=None))
    made = [
        Objective(
            service=service,
            kind=kind.value,
            target=target,
            threshold_ms=threshold_ms,
            created_at=now,
        )
        for service in bare
        for kind, target, threshold_ms in _DEFAULTS
    ]
    # Another worker may be doing the same: its rows are as good as ours.
    Objective.objects.bulk_create(made, ignore_conflicts=True)
    return len(made)


def set_objective(
    *,
    actor: Actor,
    service: Service,
    kind: Kind,
    target: float,
    threshold_ms: float | None = None,
    window_days: int = 30,
    now: datetime,
) -> Objective:
    """Make `kind` of `service` promise this from now on.

    Counts of another threshold say nothing about this one: they are dropped with it. Nothing is
    written when it promises the same already.

    Raises:
        Forbidden: the actor may not change the registry of the service's team.
        InvalidInput: nothing can measure it; the sentence names the field.
    """
    actor.require("registry.change", service.team.slug)
    check_objective(
        kind,
        target=target,
        threshold_ms=threshold_ms,
        window_days=window_days,
        bounds_s=BUCKET_BOUNDS_S,
    )
    values = {"target": target, "threshold_ms": threshold_ms, "window_days": window_days}
    with transaction.atomic():
        objective, is_new = Objective.objects.select_for_update().get_or_create(
            service=service, kind=kind.value, defaults={**values, "created_at": now}
        )
        changes = {
            name: {"before": None if is_new else getattr(objective, name), "after": value}
            for name, value in values.items()
            if is_new or getattr(objective, name) != value
        }
        if not changes:
            return objective
        if not is_new and "threshold_ms" in changes:
            objective.slices.all().delete()
        for name, value in values.items():
            setattr(objective, name, value)
        objective.save(update_fields=list(values))
        audit.record(
            actor=actor,
            action="objective.set" if is_new else "objective.changed",
            subject=f"objective:{service.slug}:{kind.value}",
            at=now,
            environment=service.environment.slug,
            service=service.slug,
            data={"changes": changes},
        )
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

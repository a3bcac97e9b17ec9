"""Celery tasks of policies."""

from __future__ import annotations

from celery import shared_task

from controlplane.access.domain.actors import system_actor
from controlplane.kernel.clock import utc_now
from controlplane.policies.services import canaries, overrides
from controlplane.policies.services.publications import publish_missing_defaults


@shared_task(
    name="policies.close_expired_overrides",
    ignore_result=True,
    soft_time_limit=20,  # seconds
    time_limit=30,  # seconds
)
def close_expired_overrides() -> int:
    """Close overrides past their end, and publish environments that never were. Every 15 s.

    Late or twice is harmless: delivery and clients leave an override at its end by the clock,
    and resolution compares `ends_at` itself. This only keeps the table and the history tidy.
    """
    now, actor = utc_now(), system_actor("tidegate")
    publish_missing_defaults(actor=actor, now=now)
    return overrides.close_expired_overrides(actor=actor, now=now)


@shared_task(
    name="policies.close_expired_canaries",
    ignore_result=True,
    soft_time_limit=20,  # seconds
    time_limit=30,  # seconds
)
def close_expired_canaries() -> int:
    """Close canaries past their end, and publish their services to everybody alike. Every 15 s.

    Late or twice is harmless: the instances of a canary leave its policy at its end by the clock,
    and any other publication of the service moves them as this one does.
    """
    return canaries.close_expired_canaries(actor=system_actor("tidegate"), now=utc_now())

"""Celery tasks of resilience."""

from __future__ import annotations

from celery import shared_task

from controlplane.kernel.clock import utc_now
from controlplane.resilience.services.idempotency import purge_expired


@shared_task(
    name="resilience.purge_idempotency_keys",
    ignore_result=True,
    soft_time_limit=50,  # seconds
    time_limit=60,  # seconds
)
def purge_idempotency_keys() -> int:
    """Delete expired idempotency keys. Hourly; harmless to run twice or late.

    Late is harmless: an expired key is taken over by whoever uses it again.
    """
    return purge_expired(now=utc_now())

"""What delivery tidies up in its own time."""

from __future__ import annotations

from celery import shared_task

from controlplane.delivery.services.tidying import prune_silent_instances as prune
from controlplane.kernel.clock import utc_now


@shared_task(
    name="delivery.prune_silent_instances",
    ignore_result=True,
    soft_time_limit=20,  # seconds
    time_limit=30,  # seconds
)
def prune_silent_instances() -> int:
    """Forget instances silent for a day, and old acknowledgements. Every 10 minutes.

    Harmless to run twice or late: whether an instance is live is decided when it is read.
    """
    return prune(now=utc_now())

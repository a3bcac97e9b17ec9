"""What delivery tidies up in its own time."""

from __future__ import annotations

from celery import shared_task

from controlplane.delivery.services import watch
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


@shared_task(
    name="delivery.watch_rejections",
    ignore_result=True,
    soft_time_limit=20,  # seconds
    time_limit=30,  # seconds
)
def watch_rejections() -> int:
    """Alert on rejected policies, and count drift for `/metrics`. Every 5 s.

    Harmless to run twice or late: what fires is made the same as what is so, each time anew.
    """
    return watch.watch_rejections(now=utc_now())

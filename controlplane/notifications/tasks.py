"""Telling channels, and forgetting what is long over."""

from __future__ import annotations

from celery import shared_task
from django.conf import settings

from controlplane.kernel.clock import utc_now
from controlplane.notifications.services import alerts, sending
from controlplane.notifications.services.channels import configured_channels


@shared_task(
    name="notifications.send_due_notices",
    ignore_result=True,
    soft_time_limit=45,  # seconds: two channels, eight calls of at most five each
    time_limit=60,  # seconds
)
def send_due_notices() -> int:
    """Tell channels what is due. Every 5 s.

    Harmless to run twice or late: a notice is claimed by one sender, and stays due until its
    channel has taken it.
    """
    return sending.send_due_notices(
        channels=configured_channels(), external_url=settings.TIDEGATE.public_url, now=utc_now()
    )


@shared_task(
    name="notifications.prune_alerts",
    ignore_result=True,
    soft_time_limit=20,  # seconds
    time_limit=30,  # seconds
)
def prune_alerts() -> int:
    """Forget alerts that were over a month ago. Every hour; harmless to run twice or late."""
    return alerts.prune_alerts(now=utc_now())

"""The collector's tick."""

from __future__ import annotations

import structlog
from celery import shared_task

from controlplane.kernel.clock import utc_now
from controlplane.registry.selectors import list_environments
from controlplane.telemetry.services.collect import collect_fleet as collect
from controlplane.telemetry.services.collect import sole_collector
from controlplane.telemetry.services.connect import signal_source
from controlplane.telemetry.services.own_metrics import share_environments
from controlplane.telemetry.sources.port import SourceUnavailable
from controlplane.telemetry.sources.shared_cache import CacheAway

log = structlog.get_logger(__name__)


@shared_task(
    name="telemetry.collect_fleet",
    ignore_result=True,
    soft_time_limit=25,  # seconds
    time_limit=30,  # seconds
)
def collect_fleet() -> None:
    """Put a fresh picture of every environment into the shared cache. Every few seconds.

    Harmless to run twice or late: a picture replaces the last one, and a tick that finds the
    previous one still running does nothing. A failure is recorded for the pages, not retried:
    the next tick is due before a retry would be.
    """
    environments = list_environments()
    try:
        share_environments([environment.slug for environment in environments])
    except CacheAway as error:
        log.warning("picture.failed", reason=error.message)
        return
    for environment in environments:
        try:
            with sole_collector(environment.slug) as mine:
                if mine:
                    collect(environment=environment.slug, source=signal_source(), now=utc_now())
        except (SourceUnavailable, CacheAway) as error:
            log.warning("picture.failed", environment=environment.slug, reason=error.message)

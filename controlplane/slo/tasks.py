"""Count objectives, and keep the counts small."""

from __future__ import annotations

import structlog
from celery import shared_task

from controlplane.kernel.clock import utc_now
from controlplane.registry.selectors import list_environments
from controlplane.slo.services import evaluate as counting
from controlplane.slo.services.objectives import ensure_fleet_objectives
from controlplane.telemetry.services.connect import signal_source
from controlplane.telemetry.sources.port import QueryRefused, SourceUnavailable

log = structlog.get_logger(__name__)


@shared_task(
    name="slo.evaluate",
    ignore_result=True,
    soft_time_limit=25,  # seconds
    time_limit=30,  # seconds
)
def evaluate() -> None:
    """Count the minutes that are due. Every 30 s.

    Harmless to run twice: a minute is one row, whoever counts it. Late is harmless: the minutes
    stay due for hours, and are counted for their own time.
    """
    now = utc_now()
    for environment in list_environments():
        try:
            ensure_fleet_objectives(environment, now)
            counting.evaluate(environment=environment, source=signal_source(), now=now)
        except (SourceUnavailable, QueryRefused) as error:
            log.warning(
                "objectives.not_counted", environment=environment.slug, reason=error.message
            )
    if counting.is_roll_up_due(now):
        counting.roll_up(now=now)

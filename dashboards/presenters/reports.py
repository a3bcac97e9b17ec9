"""How old what instances said is: they report through delivery, and delivery may be cut off."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.delivery.domain.convergence import LIVE_WITHIN
from controlplane.delivery.selectors import read_reporting
from controlplane.telemetry.selectors import Freshness as State
from dashboards.presenters.freshness import Freshness

WHY = "Nothing was reported since: delivery cannot write reports, or every instance has stopped."


@dataclass(frozen=True, slots=True)
class Reports:
    """How old the reports are, None when there are none, and the moment to judge them by."""

    freshness: Freshness | None
    as_of: datetime


def read_reports(environment: str, now: datetime) -> Reports:
    """Return how old the reports of an environment are; one query."""
    reporting = read_reporting(environment, now=now)
    newest = reporting.newest_at
    if newest is None:
        return Reports(None, reporting.as_of)
    freshness = Freshness(
        state=State.STALE if reporting.is_stale else State.LIVE,
        age_s=max(0.0, (now - newest).total_seconds()),
        reason=WHY if reporting.is_stale else "",
        taken_at=newest,
        stale_after_s=int(LIVE_WITHIN.total_seconds()),
    )
    return Reports(freshness, reporting.as_of)

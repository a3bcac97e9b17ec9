"""How old what instances said is: they report through delivery, and delivery may be cut off."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.delivery.domain.convergence import LIVE_WITHIN
from controlplane.delivery.selectors import newest_sighting
from controlplane.telemetry.selectors import Freshness as State
from dashboards.presenters.freshness import Freshness

SHOWN_FOR = timedelta(days=1)  # then the instances themselves are forgotten
WHY = "Nothing was reported since: delivery cannot write reports, or every instance has stopped."


@dataclass(frozen=True, slots=True)
class Reports:
    """When instances were last reported, and the moment that pages should judge them by.

    A silence of everybody at once is judged as of the last report and drawn as old: otherwise a
    delivery that cannot write would look like a fleet that has gone.
    """

    freshness: Freshness | None
    as_of: datetime


def read_reports(environment: str, now: datetime) -> Reports:
    """Return how old the reports of an environment are; without any there is no freshness."""
    newest = newest_sighting(environment)
    if newest is None or now - newest > SHOWN_FOR:
        return Reports(None, now)
    age_s = max(0.0, (now - newest).total_seconds())
    is_old = age_s >= LIVE_WITHIN.total_seconds()
    freshness = Freshness(
        state=State.STALE if is_old else State.LIVE,
        age_s=age_s,
        reason=WHY if is_old else "",
        taken_at=newest,
        stale_after_s=int(LIVE_WITHIN.total_seconds()),
    )
    return Reports(freshness, newest if is_old else now)

"""Our own metrics of delivery."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.delivery.hotpath.app import ConfigApp
from controlplane.delivery.hotpath.reports import ReportBuffer
from controlplane.kernel.instruments import REGISTRY, counter, gauge, histogram

PUBLISH_TO_SWAP = histogram(
    "tidegate_delivery_publish_to_swap_seconds",
    "From the time of a publication until this process serves it.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0),
)
REPORTS_WRITTEN = counter(
    "tidegate_delivery_reports_written_total", "Instance reports written to the database."
)
FEED_FAILURES = counter(
    "tidegate_delivery_feed_failures_total",
    "Failed reads and writes of the database, hint connections and writes of the snapshot file.",
    ("what",),
)
SNAPSHOTS_LATE = counter(
    "tidegate_delivery_snapshots_late_total",
    "Times that the disk was so slow that a policy was served before it was in the snapshot file.",
)
SEQUENCE_LEAD = gauge(
    "tidegate_delivery_sequence_lead",
    "By how much what was served, or what instances hold, is ahead of the newest publication in "
    "the database; above 0, a replica lags or a backup was restored.",
)
SIGNS = gauge(
    "tidegate_delivery_signs",
    "1 while answers of this process are signed; 0 when it has no key that it can open.",
)


class PlaneCollector(Collector):
    """Reads the hot path's own counts when scraped, so that a poll pays one addition."""

    def __init__(self) -> None:
        self._app: ConfigApp | None = None
        self._reports: ReportBuffer | None = None
        self._confirmed_at_unix: Callable[[], float] = lambda: 0.0

    def watch(
        self, app: ConfigApp, reports: ReportBuffer, confirmed_at_unix: Callable[[], float]
    ) -> None:
        """Report on this plane from now on."""
        self._app = app
        self._reports = reports
        self._confirmed_at_unix = confirmed_at_unix

    def describe(self) -> Iterator[Metric]:
        """Name the families without a plane to read."""
        yield from _families()

    def collect(self) -> Iterator[Metric]:
        """Yield the present figures; nothing before there is a plane."""
        if self._app is None or self._reports is None:
            return
        polls, parked, age, dropped = _families()
        counts = dict(self._app.answer_counts)
        counts[304] = counts.get(304, 0) + self._app.unchanged_count
        for status, count in sorted(counts.items()):
            polls.add_metric([str(status)], count)
        parked.add_metric([], self._app.parked_count)
        confirmed_at_unix = self._confirmed_at_unix()
        if confirmed_at_unix > 0.0:  # absent until then: an age since 1970 would say nothing
            age.add_metric([], max(0.0, time.time() - confirmed_at_unix))
        dropped.add_metric([], self._reports.dropped_count)
        yield from (polls, parked, age, dropped)


def _families() -> tuple[
    CounterMetricFamily, GaugeMetricFamily, GaugeMetricFamily, CounterMetricFamily
]:
    return (
        CounterMetricFamily(
            "tidegate_delivery_polls", "Answers of the config API by status.", labels=["status"]
        ),
        GaugeMetricFamily(
            "tidegate_delivery_parked_connections", "Long-polls held now.", labels=[]
        ),
        GaugeMetricFamily(
            "tidegate_delivery_feed_age_seconds",
            "Since the database last confirmed the snapshots.",
            labels=[],
        ),
        CounterMetricFamily(
            "tidegate_delivery_reports_dropped", "Instance reports beyond the bounds.", labels=[]
        ),
    )


PLANE = PlaneCollector()
REGISTRY.register(PLANE)

"""Our own metrics of delivery."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.delivery.hotpath.connections import Wire
from controlplane.delivery.hotpath.plane import DeliveryPlane
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
REJECTIONS = counter(
    "tidegate_delivery_rejections_total",
    "Times that an instance began to reject a policy, by service.",
    ("environment", "service"),
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


MAX_LABELLED_SERVICES = 500
_labelled: set[tuple[str, str]] = set()


def count_rejection(environment: str, service: str) -> None:
    """Count that an instance began to reject a policy; services beyond 500 share one label."""
    if (environment, service) not in _labelled:
        if len(_labelled) >= MAX_LABELLED_SERVICES:
            service = "other"
        _labelled.add((environment, service))
    REJECTIONS.labels(environment, service).inc()


class PlaneCollector(Collector):
    """Reads the hot path's own counts when scraped, so that a poll pays one addition."""

    def __init__(self) -> None:
        self._plane: DeliveryPlane | None = None
        self._reports: ReportBuffer | None = None
        self._wire: Wire | None = None
        self._confirmed_at_unix: Callable[[], float] = lambda: 0.0

    def watch(
        self, plane: DeliveryPlane, reports: ReportBuffer, confirmed_at_unix: Callable[[], float]
    ) -> None:
        """Report on this plane from now on."""
        self._plane = plane
        self._reports = reports
        self._confirmed_at_unix = confirmed_at_unix

    def watch_wire(self, wire: Wire) -> None:
        """Report on these connections from now on."""
        self._wire = wire

    def describe(self) -> Iterator[Metric]:
        """Name the families without a plane to read."""
        yield from _Families().all()

    def collect(self) -> Iterator[Metric]:
        """Yield the present figures; nothing before there is a plane."""
        if self._plane is None or self._reports is None:
            return
        families = _Families()
        counts = dict(self._plane.answer_counts)
        counts[304] = counts.get(304, 0) + self._plane.config.unchanged_count
        for status, count in sorted(counts.items()):
            families.polls.add_metric([str(status)], count)
        families.parked.add_metric([], self._plane.config.held_count)
        confirmed_at_unix = self._confirmed_at_unix()
        if confirmed_at_unix > 0.0:  # absent until then: an age since 1970 would say nothing
            families.age.add_metric([], max(0.0, time.time() - confirmed_at_unix))
        families.dropped.add_metric([], self._reports.dropped_count)
        if self._wire is not None:
            families.open.add_metric([], len(self._wire.all))
            for reason, count in sorted(self._wire.end_counts.items()):
                families.ended.add_metric([reason], count)
        yield from families.all()


class _Families:
    def __init__(self) -> None:
        self.polls = CounterMetricFamily(
            "tidegate_delivery_polls", "Answers of the delivery plane by status.", labels=["status"]
        )
        self.parked = GaugeMetricFamily(
            "tidegate_delivery_parked_connections", "Long-polls and streams held now.", labels=[]
        )
        self.age = GaugeMetricFamily(
            "tidegate_delivery_feed_age_seconds",
            "Since the database last confirmed the snapshots.",
            labels=[],
        )
        self.dropped = CounterMetricFamily(
            "tidegate_delivery_reports_dropped", "Instance reports beyond the bounds.", labels=[]
        )
        self.open = GaugeMetricFamily(
            "tidegate_delivery_open_connections", "Connections of this process now.", labels=[]
        )
        self.ended = CounterMetricFamily(
            "tidegate_delivery_connections_ended",
            "Connections that were ended for what they did or failed to do.",
            labels=["reason"],
        )

    def all(self) -> Iterator[Metric]:
        yield from (self.polls, self.parked, self.age, self.dropped, self.open, self.ended)


PLANE = PlaneCollector()
REGISTRY.register(PLANE)

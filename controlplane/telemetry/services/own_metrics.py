"""The collector's own figures, for `/metrics` of every process that shares its cache.

The collector runs in a worker nobody scrapes, so it leaves its figures beside the picture. When
the cache is away the series are absent: unknown is not zero.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from controlplane.kernel.clock import utc_now
from controlplane.kernel.instruments import REGISTRY
from controlplane.telemetry.domain.status import CollectorStatus
from controlplane.telemetry.selectors import read_status
from controlplane.telemetry.sources import shared_cache
from controlplane.telemetry.sources.shared_cache import CacheAway

_ENVIRONMENTS = "telemetry:environments:v1"
_KEEP_S = 7 * 86400
_COUNTERS = {
    "ticks": "Runs of the collector.",
    "failures": "Runs that got no picture because the source did not answer.",
    "skipped": "Runs skipped because the previous one was not done.",
    "queries": "Queries sent to the source.",
    "query_seconds": "Time spent waiting for the source.",
}


class CollectorFigures:
    """Reads what the collectors of all environments left in the shared cache, at each scrape."""

    def collect(self) -> Iterator[Metric]:
        """Yield one family per figure."""
        now_s = utc_now().timestamp()
        statuses = _statuses()
        for name, about in _COUNTERS.items():
            family = CounterMetricFamily(
                "tidegate_telemetry_collector_" + name, about, labels=["environment"]
            )
            for environment, status in statuses.items():
                family.add_metric([environment], float(getattr(status, name)))
            yield family
        age = GaugeMetricFamily(
            "tidegate_telemetry_picture_age_seconds",
            "Time since the figures of the shared picture were true.",
            labels=["environment"],
        )
        for environment, status in statuses.items():
            if status.taken_at:
                age.add_metric([environment], now_s - status.taken_at)
        yield age

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not read the cache."""
        return iter(())


def share_environments(slugs: list[str]) -> None:
    """Tell whoever exposes the figures which environments have a collector.

    Raises:
        CacheAway: the shared cache does not answer.
    """
    shared_cache.write(_ENVIRONMENTS, "\n".join(slugs).encode(), keep_s=_KEEP_S)


def expose_collector_figures() -> None:
    """Add the figures to this process's registry; once per process."""
    REGISTRY.register(CollectorFigures())


def _statuses() -> dict[str, CollectorStatus]:
    try:
        names = (shared_cache.read(_ENVIRONMENTS) or b"").decode().split()
        return {name: read_status(name) for name in names}
    except CacheAway:
        return {}

"""Our own metrics: one registry, and names that read `tidegate_<app>_<what>_<unit>`."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def counter(name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
    """Return a new counter in our registry; the name ends in `_total`."""
    return Counter(name, help_text, labels, registry=REGISTRY)


def gauge(name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
    """Return a new gauge in our registry."""
    return Gauge(name, help_text, labels, registry=REGISTRY)


def histogram(
    name: str,
    help_text: str,
    labels: Sequence[str] = (),
    buckets: Sequence[float] = DURATION_BUCKETS_S,
) -> Histogram:
    """Return a new histogram in our registry; the name ends in its unit, such as `_seconds`."""
    return Histogram(name, help_text, labels, registry=REGISTRY, buckets=buckets)

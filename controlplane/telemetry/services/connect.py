"""The one Prometheus of this process: its pool, its breaker, its limit on queries in flight."""

from __future__ import annotations

from functools import cache

from django.conf import settings

from controlplane.telemetry.sources.port import SignalSource
from controlplane.telemetry.sources.prometheus import PrometheusSource


@cache
def signal_source() -> SignalSource:
    """Return the source that the settings name, the same one each time."""
    return PrometheusSource(settings.TIDEGATE.prometheus_url)

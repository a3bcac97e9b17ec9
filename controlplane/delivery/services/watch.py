"""Looks for rejected policies, alerts on them, and leaves figures for `/metrics`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime

import structlog
from django.conf import settings
from django.core.cache import cache
from prometheus_client.core import GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from controlplane.delivery.domain.alerting import (
    convergence_url,
    rejection_annotations,
    rejection_labels,
)
from controlplane.delivery.domain.drift import Rejection, group_rejections
from controlplane.delivery.selectors import FleetDrift, fleet_drift, read_reporting
from controlplane.kernel.instruments import REGISTRY
from controlplane.notifications.domain.alerts import AlertContent
from controlplane.notifications.services.alerts import sync_alerts
from controlplane.notifications.services.channels import configured_channels
from controlplane.registry.models import Service
from controlplane.registry.selectors import list_environments, list_service_headings

SOURCE = "delivery.rejections"
KEPT_S = 30  # six looks: figures of a watcher that died are absent, not old
MAX_SERVICES = 500
_FIGURES = "delivery:drift:v1"

logger = structlog.get_logger(__name__)


def watch_rejections(*, now: datetime) -> int:
    """Judge every environment once; return how many rejections there are.

    Whoever rejects fires an alert by environment, service, sequence and reason; it is resolved
    when nobody does so any more. All that is remembered is in the database.
    """
    contents: list[AlertContent] = []
    figures: dict[str, dict[str, object]] = {}
    for environment in list_environments():
        as_of = read_reporting(environment.slug, now=now).as_of
        fleet = fleet_drift(environment.slug, now=as_of)
        rejections = group_rejections(environment.slug, fleet.services)
        headings = {service.slug: service for service in list_service_headings(environment.slug)}
        contents.extend(_content(each, headings.get(each.service)) for each in rejections)
        figures[environment.slug] = _figures(fleet, rejections)
    sync_alerts(source=SOURCE, firing=contents, channels=configured_channels(), now=now)
    _share(figures)
    return len(contents)


class DriftFigures:
    """Reads what the watcher left in the shared cache, at each scrape."""

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of the last look; nothing when that is too old or out of reach."""
        instances = GaugeMetricFamily(
            "tidegate_delivery_instances",
            "Instances by what they enforce: current, drifting (rejecting among them), silent.",
            labels=["environment", "state"],
        )
        rejecting = GaugeMetricFamily(
            "tidegate_delivery_rejecting_instances",
            "Live instances that reject the policy they should enforce; absent when none does.",
            labels=["environment", "service"],
        )
        for environment, figures in _read_figures().items():
            for state, count in figures["instances"].items():
                instances.add_metric([environment, state], count)
            for service, count in figures["rejecting"].items():
                rejecting.add_metric([environment, service], count)
        yield from (instances, rejecting)

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not read the cache."""
        return iter(())


def expose_drift_figures() -> None:
    """Add the figures to this process's registry; once per process."""
    REGISTRY.register(DriftFigures())


def _content(rejection: Rejection, service: Service | None) -> AlertContent:
    url = convergence_url(settings.TIDEGATE.public_url, rejection)
    return AlertContent(
        labels=rejection_labels(rejection, team=service.team.slug if service else ""),
        annotations=rejection_annotations(
            rejection, url=url, runbook_url=service.runbook_url if service else ""
        ),
        starts_at=rejection.since,
        url=url,
    )


def _figures(fleet: FleetDrift, rejections: Iterable[Rejection]) -> dict[str, object]:
    rejecting: dict[str, int] = {}
    for each in rejections:
        # Names of services are few: each has a token. Yet nobody should have to rely on that.
        name = each.service if len(rejecting) < MAX_SERVICES else "other"
        rejecting[name] = rejecting.get(name, 0) + len(each.instances)
    return {
        "instances": {
            "live": fleet.live,
            "current": fleet.current,
            "drifting": fleet.drifting,
            "rejecting": sum(rejecting.values()),
            "silent": fleet.silent,
        },
        "rejecting": rejecting,
    }


def _share(figures: dict[str, dict[str, object]]) -> None:
    try:
        cache.set(_FIGURES, json.dumps(figures).encode(), timeout=KEPT_S)
    except (RedisError, OSError) as error:
        logger.warning("drift.figures_lost", error=str(error))


def _read_figures() -> dict[str, dict[str, dict[str, int]]]:
    try:
        found = cache.get(_FIGURES)
    except (RedisError, OSError):
        return {}
    return json.loads(found) if isinstance(found, bytes) else {}

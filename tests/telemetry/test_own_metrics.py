from __future__ import annotations

from datetime import datetime

import pytest
from django.core.cache import cache
from prometheus_client import generate_latest
from redis.exceptions import ConnectionError as CacheRefuses

from controlplane.kernel.instruments import REGISTRY
from controlplane.registry.models import Environment
from controlplane.telemetry import tasks
from controlplane.telemetry.selectors import read_picture
from controlplane.telemetry.services.collect import sole_collector
from controlplane.telemetry.sources.fake import FakeSource
from controlplane.telemetry.sources.port import SourceUnavailable

pytestmark = pytest.mark.django_db


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, now: datetime) -> FakeSource:
    source = FakeSource()
    monkeypatch.setattr(tasks, "signal_source", lambda: source)
    monkeypatch.setattr(tasks, "utc_now", lambda: now)
    return source


def figures() -> str:
    return generate_latest(REGISTRY).decode()


def test_the_collectors_figures_are_exposed_by_whoever_shares_the_cache(
    prod: Environment, source: FakeSource
) -> None:
    tasks.collect_fleet()
    source.failure = SourceUnavailable("connection refused")
    tasks.collect_fleet()

    text = figures()

    assert 'tidegate_telemetry_collector_ticks_total{environment="prod"} 2.0' in text
    assert 'tidegate_telemetry_collector_failures_total{environment="prod"} 1.0' in text
    assert 'tidegate_telemetry_collector_queries_total{environment="prod"} 21.0' in text
    assert 'tidegate_telemetry_picture_age_seconds{environment="prod"}' in text


def test_without_the_cache_the_figures_are_absent_not_zero(
    prod: Environment, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks.collect_fleet()

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise CacheRefuses("connection refused")

    for name in ("get", "set", "add"):
        monkeypatch.setattr(cache, name, refuse)
    tasks.collect_fleet()

    assert 'environment="prod"' not in "".join(
        line for line in figures().splitlines() if line.startswith("tidegate_telemetry_collector")
    )


def test_one_environment_that_fails_does_not_stop_the_others(
    prod: Environment, source: FakeSource, now: datetime
) -> None:
    Environment.objects.create(slug="staging", name="Staging")
    source.failures['environment="prod"'] = SourceUnavailable("connection refused")

    tasks.collect_fleet()

    assert read_picture("prod", now).picture is None
    assert read_picture("staging", now).picture is not None


def test_a_tick_that_finds_the_previous_one_running_asks_nothing(
    prod: Environment, source: FakeSource
) -> None:
    with sole_collector("prod"):
        tasks.collect_fleet()

    assert source.asked == []

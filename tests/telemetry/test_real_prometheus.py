"""The native dialect against a real Prometheus that scrapes what the SDK really exposes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Lock

import pytest
from pytest_django import Settings

from controlplane.registry.models import Environment, Service
from controlplane.slo.services.evaluate import evaluate
from controlplane.slo.services.objectives import ensure_default_objectives
from controlplane.telemetry.domain.dialects.native import Reading, fleet_queries, reading_query
from controlplane.telemetry.domain.promql import Expression, equal, select
from controlplane.telemetry.domain.signals import BreakerState, Signal
from controlplane.telemetry.selectors import Freshness
from controlplane.telemetry.services.collect import collect_fleet
from controlplane.telemetry.services.ranges import read_breaker_timeline, read_range
from controlplane.telemetry.sources.port import SourceUnavailable
from controlplane.telemetry.sources.prometheus import PrometheusSource
from tests.telemetry.prometheus_server import http_server, prometheus, reply
from tests.waiting import HUNG_S, wait_until
from tidegate.metrics import Metrics

pytestmark = [pytest.mark.scenario, pytest.mark.django_db]

ODD = 'a"b\\c\nd{}\ufffd§'  # everything that a label value may hold and a query must survive


class BusyService:
    """What one instance exposes; each scrape finds it a little busier."""

    def __init__(self) -> None:
        self._scraping = Lock()
        self.metrics = Metrics()
        self.metrics.set_breaker_state("payments", "open")
        self.metrics.inflight.child().set(7)
        self.metrics.queue_depth.child().set(3)
        self.metrics.ready.child().set(1)
        self.metrics.config_sequence.child().set(42)

    def answer(self, handler: BaseHTTPRequestHandler, _form: str) -> None:
        with self._scraping:  # a scrape after a slow one would show half of the work
            self._work()
            text = self.metrics.text()
        reply(handler, 200, text.decode(), "text/plain; version=0.0.4")

    def _work(self) -> None:
        metrics = self.metrics
        for _ in range(18):
            metrics.server_duration.child("/orders", "POST", "200").observe(0.2)
        metrics.server_duration.child("/orders", "POST", "503").observe(0.7)
        metrics.server_duration.child("/orders", "POST", "200").observe(60.0)
        metrics.client_requests.child("payments", "success").add(10)
        metrics.client_requests.child("payments", "breaker_open").add(5)
        metrics.client_attempts.child("payments", "success").add(10)
        metrics.client_attempts.child("payments", "timeout").add(15)
        for _ in range(25):
            metrics.client_attempt_duration.child("payments").observe(1.5)
        metrics.retry_budget_exhausted.child("payments").add(2)
        metrics.breaker_calls.child("payments", "rejected").add(5)
        metrics.rejected.child("shed", "/orders", "sheddable").add(1)
        metrics.would_reject.child("rate", "/orders", "critical").add(1)
        metrics.tenant_requests.child("acme", "accepted").add(3)
        metrics.tenant_requests.child("acme", "limited").add(1)
        metrics.tenant_requests.child(ODD, "accepted").add(1)
        metrics.queue_wait.child().observe(0.03)


@dataclass(frozen=True, slots=True)
class Scraped:
    """A Prometheus whose exporter is gone: what it knows of these minutes changes no more."""

    url: str
    at: datetime
    """When the last of its scrapes was good."""
    gone_at: datetime

    @property
    def at_s(self) -> float:
        return self.at.timestamp()


def patient(url: str) -> PrometheusSource:
    return PrometheusSource(url, connect_s=HUNG_S, read_s=HUNG_S, clock=lambda: 0.0)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    folder = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as stack:
        with http_server(BusyService().answer) as exporter:
            targets = {exporter.removeprefix("http://"): "checkout"}
            url = stack.enter_context(prometheus(folder, targets))
            source = stack.enter_context(closing(patient(url)))
            found: list[datetime] = []

            def has_good_scrapes() -> bool:
                """`rate` needs two in its window; five make its figures steady."""
                found.append(datetime.now(UTC))
                at_s = found[-1].timestamp()
                return scrapes(source, at_s) >= 5 and is_up(source, at_s)

            wait_until(has_good_scrapes, what="five scrapes of the exporter")
        wait_until(lambda: is_down(source), what="a scrape that finds the exporter gone")
        yield Scraped(url, found[-1], datetime.now(UTC))


@pytest.fixture
def source(scraped: Scraped) -> Iterator[PrometheusSource]:
    with closing(patient(scraped.url)) as source:
        yield source


@pytest.fixture
def real_now(scraped: Scraped, settings: Settings) -> datetime:
    """A scrape lag ahead: the collector asks for what was true then, and Prometheus has it now."""
    settings.TIDEGATE = replace(settings.TIDEGATE, scrape_interval_s=1.0)
    return scraped.at + timedelta(seconds=1)


def is_up(source: PrometheusSource, at_s: float) -> bool:
    return [sample.value for sample in source.instant(select("up"), at_s).samples] == [1.0]


def scrapes(source: PrometheusSource, at_s: float) -> int:
    counted = Expression("count_over_time(tidegate_ready[1m])")
    samples = source.instant(counted, at_s).samples
    return int(samples[0].value) if samples else 0


@pytest.mark.parametrize("reading", list(Reading))
def test_every_query_of_the_dialect_parses_and_finds_what_the_sdk_exposes(
    reading: Reading, scraped: Scraped, source: PrometheusSource
) -> None:
    answer = source.instant(reading_query(reading, "prod", 60), scraped.at_s)

    assert answer.samples
    assert {sample.labels["service"] for sample in answer.samples} == {"checkout"}
    assert source.instant(reading_query(reading, "staging", 60), scraped.at_s).samples == ()


def test_a_value_with_every_odd_character_selects_its_own_series_only(
    scraped: Scraped, source: PrometheusSource
) -> None:
    selected = select("tidegate_tenant_requests_total", equal("tenant", ODD))

    answer = source.instant(selected, scraped.at_s)

    assert [sample.labels["tenant"] for sample in answer.samples] == [ODD]


def test_a_tick_reads_the_fleet(source: PrometheusSource, real_now: datetime) -> None:
    picture = collect_fleet(environment="prod", source=source, now=real_now)

    checkout = picture.services["checkout"]
    payments = checkout.dependencies["payments"]
    assert picture.problems == ()
    assert len(fleet_queries("prod", 60)) + 2 == picture.queries
    assert checkout.error_ratio == pytest.approx(1 / 20)
    assert checkout.p50 is not None
    assert 0.1 < checkout.p50.seconds <= 0.25
    assert checkout.p99 is not None
    assert (checkout.p99.seconds, checkout.p99.capped) == (10.0, True)
    assert checkout.endpoints["POST /orders"].rate_per_s == pytest.approx(checkout.rate_per_s)
    assert checkout.attempts_per_request == pytest.approx(2.5)
    assert payments.failure_ratio == pytest.approx(0.6)
    assert payments.slow_ratio == pytest.approx(1.0)
    assert payments.breaker_states == {"open": 1}
    assert payments.budget_exhausted_per_s is not None
    assert payments.breaker_rejected_per_s is not None
    assert checkout.shed_ratio == pytest.approx(1 / 20)
    assert set(checkout.would_reject_per_s) == {"rate"}
    assert checkout.tenants["acme"].limited_ratio == pytest.approx(0.25)
    assert ODD in checkout.tenants
    assert (checkout.inflight, checkout.queue_depth) == (7.0, 3.0)
    assert checkout.queue_wait_p95_s is not None
    assert (checkout.instances_ready, checkout.instances_reporting) == (1, 1)
    assert checkout.config_sequence == 42
    assert picture.services.keys() == {"checkout"}


def test_every_chart_is_answered(source: PrometheusSource, real_now: datetime) -> None:
    for signal in Signal:
        service = "payments" if signal is Signal.ATTEMPTS_RECEIVED else "checkout"
        for by in (None, *signal.breakdowns):
            read = read_range(
                signal, "prod", service, range_s=60, now=real_now, by=by, source=source
            )
            assert (read.state, read.reason) == (Freshness.LIVE, ""), signal
            assert any(value is not None for _, value in read.series[0].points), signal


def test_the_timeline_of_an_open_breaker_is_open(
    source: PrometheusSource, real_now: datetime
) -> None:
    read = read_breaker_timeline("prod", "checkout", range_s=60, now=real_now, source=source)

    last = read.rows[0].steps[-1]
    assert (read.rows[0].dependency, last.state, last.share) == ("payments", BreakerState.OPEN, 1.0)


def now_s() -> float:
    return datetime.now(UTC).timestamp()


def is_down(source: PrometheusSource) -> bool:
    return [sample.value for sample in source.instant(select("up"), now_s()).samples] == [0.0]


def test_objectives_are_counted(
    scraped: Scraped,
    source: PrometheusSource,
    checkout: Service,
    prod: Environment,
    settings: Settings,
) -> None:
    settings.TIDEGATE = replace(settings.TIDEGATE, scrape_interval_s=1.0)
    now = scraped.gone_at
    availability, latency = ensure_default_objectives(checkout, now)
    # The minute that the exporter lived in may not be over: judge from the next one.
    later = now + timedelta(minutes=1, seconds=1)

    assert evaluate(environment=prod, source=source, now=later) >= 2

    counted = availability.slices.latest("start")
    assert 1 - counted.good / counted.total == pytest.approx(1 / 20, abs=0.01)
    fast = latency.slices.latest("start")
    assert fast.good / fast.total == pytest.approx(18 / 19, abs=0.01)


def test_a_stopped_prometheus_is_named(tmp_path: Path) -> None:
    def nothing(handler: BaseHTTPRequestHandler, _form: str) -> None:
        reply(handler, 200, "up_to_date 1\n", "text/plain; version=0.0.4")

    with ExitStack() as stack:
        exporter = stack.enter_context(http_server(nothing))
        with prometheus(tmp_path, {exporter.removeprefix("http://"): "checkout"}) as url:
            source = stack.enter_context(closing(patient(url)))
            source.instant(select("up"), now_s())
        with pytest.raises(SourceUnavailable, match=r"cannot be reached: .*Connection refused"):
            source.instant(select("up"), now_s())

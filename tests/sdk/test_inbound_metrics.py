from __future__ import annotations

import asyncio
import re

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tests.sdk.inbound import HeldApp, Service, endpoint, plain_app, policy
from tidegate.asgi import Receive, Scope, Send
from tidegate.metrics import Metrics, metrics_asgi_app
from tidegate.series import OTEL_SECONDS
from tidegate.tenants import TenantTally

PRODUCTS = {"GET /products/{id}": endpoint()}


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def durations(service: Service, route: str, status: int, method: str = "GET") -> float:
    labels = {
        ("http_route", route),
        ("http_request_method", method),
        ("http_response_status_code", str(status)),
    }
    name = "http_server_request_duration_seconds_count"
    return samples(service.metrics).get((name, frozenset(labels)), -1.0)


async def test_each_request_is_measured_under_its_template() -> None:
    service = Service(policy(endpoints=PRODUCTS))

    for number in range(5):
        await service.get(f"/products/{number}")

    assert durations(service, "/products/{id}", 200) == 5


async def test_durations_fall_into_the_buckets_of_opentelemetry() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        service.clock.advance(0.25)
        await plain_app(scope, receive, send)

    service = Service(policy(endpoints=PRODUCTS), app)
    await service.get("/products/1")

    found = service.metrics.server_duration.child("/products/{id}", "GET", "200")
    assert found.bounds == OTEL_SECONDS
    assert found.counts[OTEL_SECONDS.index(0.25)] == 1
    assert found.total == pytest.approx(0.25)


async def test_unknown_paths_and_methods_share_one_series() -> None:
    service = Service(policy(endpoints=PRODUCTS))

    for number in range(50):
        await service.get(f"/scan/{number}.php")
        await service.http.request(f"HACK{number}", "/")

    assert durations(service, "other", 200) == 50
    assert durations(service, "other", 200, "_OTHER") == 50


async def test_a_template_that_the_framework_matched_is_used_when_the_policy_knows_none() -> None:
    class Route:
        path = "/users/{name}"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route()
        await plain_app(scope, receive, send)

    service = Service(policy(), app)
    await service.get("/users/ada")

    assert durations(service, "/users/{name}", 200) == 1


async def test_routes_of_the_application_are_known_from_the_start() -> None:
    service = Service(policy(), routes=["GET /users/{name}"])

    await service.get("/users/ada")

    assert durations(service, "/users/{name}", 200) == 1


async def test_failures_have_a_zero_to_start_from() -> None:
    service = Service(policy(endpoints=PRODUCTS))

    assert durations(service, "/products/{id}", 500) == 0
    assert durations(service, "/products/{id}", 503) == 0
    labels = 'reason="shed",http_route="/products/{id}",criticality="critical"'
    assert f"tidegate_rejected_total{{{labels}}} 0.0" in service.metrics.text().decode()


async def test_an_exception_counts_as_500_and_goes_on_to_the_server() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("broken")

    service = Service(policy(endpoints=PRODUCTS), app)

    with pytest.raises(ValueError, match="broken"):
        await service.get("/products/1")

    assert durations(service, "/products/{id}", 500) == 1
    assert service.guard.lifecycle.inflight == 0


async def test_a_caller_that_went_away_is_no_server_error() -> None:
    held = HeldApp()
    service = Service(policy(endpoints=PRODUCTS), held)
    request = asyncio.create_task(service.get("/products/1"))
    await held.until_started(1)

    request.cancel()
    await asyncio.gather(request, return_exceptions=True)

    assert durations(service, "/products/{id}", 499) == 1
    assert durations(service, "/products/{id}", 500) == 0


async def test_what_runs_now_is_read_at_the_scrape() -> None:
    held = HeldApp()
    service = Service(policy(), held)
    running = asyncio.create_task(service.get())
    await held.until_started(1)

    during = samples(service.metrics)[("tidegate_inflight", frozenset())]
    held.release.set()
    await running

    assert during == 1
    assert samples(service.metrics)[("tidegate_inflight", frozenset())] == 0
    assert samples(service.metrics)[("tidegate_ready", frozenset())] == 1


async def test_tenants_are_counted_by_outcome_the_largest_by_name() -> None:
    limits = {"default": None, "named": {"acme": {"per_s": 1, "burst": 1}}}
    service = Service(policy(tenants=limits))

    await service.statuses(3, x_tenant="acme")
    for tenant in ("globex", "initech", "umbrella", "hooli"):
        await service.get(x_tenant=tenant)

    text = service.metrics.text().decode()
    assert 'tidegate_tenant_requests_total{tenant="acme",outcome="accepted"} 1.0' in text
    assert 'tidegate_tenant_requests_total{tenant="acme",outcome="limited"} 2.0' in text
    assert 'tidegate_tenant_requests_total{tenant="other",outcome="accepted"} 2.0' in text
    assert "hooli" not in text


def test_a_tenant_that_grows_takes_the_place_of_one_that_went_quiet() -> None:
    metrics = Metrics()
    tally = TenantTally(metrics.tenant_requests, max_named=2)
    for tenant in ("quiet", "steady", "steady"):
        tally.series_of(tenant)
    for _ in range(400):
        tally.series_of("steady")

    for _ in range(1_001):
        tally.series_of("grown")

    text = metrics.text().decode()
    assert set(re.findall(r'tenant="(\w+)"', text)) == {"steady", "grown", "other"}


def test_a_million_tenant_names_make_a_bounded_number_of_series() -> None:
    metrics = Metrics()
    tally = TenantTally(metrics.tenant_requests, max_named=5)
    tally.pin(["acme"])

    for number in range(20_000):
        tally.series_of(f"tenant-{number}").accepted.add()

    assert len(list(metrics.tenant_requests.samples())) <= 3 * (1 + 5 + 1 + 1)


def test_the_metrics_show_in_a_prometheus_client_registry() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.rejected.child("rate", "/", "critical").add()
    metrics.server_duration.child("/", "GET", "200").observe(0.3)

    found = {family.name: family for family in registry.collect()}

    assert found["tidegate_rejected"].samples[0].value == 1.0
    assert b"tidegate_rejected_total{" in metrics.text()
    assert found["http_server_request_duration_seconds"].type == "histogram"


def test_a_value_nobody_knows_is_missing_and_never_zero() -> None:
    metrics = Metrics()
    metrics.watch_config(sequence=lambda: 42, age_s=lambda: None)

    text = metrics.text().decode()

    assert "tidegate_config_sequence 42.0" in text
    assert "\ntidegate_config_age_seconds " not in text


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    metrics.tenant_requests.child('a"b\\c\nd', "accepted").add()

    family = next(
        family
        for family in text_string_to_metric_families(metrics.text().decode())
        if family.name == "tidegate_tenant_requests"
    )
    assert family.samples[0].labels["tenant"] == 'a"b\\c\nd'


def test_a_series_with_the_wrong_labels_is_a_mistake_that_says_which_are_right() -> None:
    with pytest.raises(ValueError, match="takes the labels reason, http_route, criticality"):
        Metrics().rejected.child("rate")


async def test_metrics_can_be_mounted_as_an_app_of_their_own() -> None:
    service = Service(policy())
    service.app.app = metrics_asgi_app(service.metrics)

    answered = await service.get("/metrics")

    assert answered.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE tidegate_ready gauge" in answered.text

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from controlplane.registry.models import Dependency, Service
from controlplane.telemetry.selectors import Freshness, read_picture, read_status
from controlplane.telemetry.services.collect import collect_fleet, sole_collector
from controlplane.telemetry.sources.fake import FakeSource
from controlplane.telemetry.sources.port import QueryFailed, QueryRefused, SourceUnavailable
from tests.telemetry.samples import fleet_rows

pytestmark = pytest.mark.django_db


def test_a_tick_shares_every_figure_of_the_fleet(now: datetime) -> None:
    collect_fleet(environment="prod", source=FakeSource(fleet_rows(["checkout"])), now=now)

    read = read_picture("prod", now)

    assert read.state is Freshness.LIVE
    assert read.picture is not None
    checkout = read.picture.services["checkout"]
    assert checkout.rate_per_s == 10.0
    assert checkout.error_ratio == 0.05
    assert checkout.p99 is not None
    assert checkout.p99.capped
    assert checkout.attempts_per_request == 2.0
    assert checkout.shed_ratio == 0.1
    assert checkout.inflight == 7.0
    assert checkout.instances_ready == 2
    assert checkout.tenants["acme"].limited_ratio == 0.25
    assert checkout.dependencies["payments"].breaker_states == {"closed": 1, "open": 1}
    assert set(checkout.rate_history) == {10.0}
    assert set(checkout.error_history) == {0.05}


@pytest.mark.parametrize("count", [5, 500])
def test_the_number_of_queries_does_not_depend_on_the_number_of_services(
    count: int, now: datetime
) -> None:
    source = FakeSource(fleet_rows([f"service-{number}" for number in range(count)]))

    picture = collect_fleet(environment="prod", source=source, now=now)

    assert len(picture.services) == count
    assert len(source.asked) == picture.queries == 20


def test_histories_are_asked_for_once_per_step(now: datetime) -> None:
    source = FakeSource(fleet_rows(["checkout"]))
    collect_fleet(environment="prod", source=source, now=now + timedelta(seconds=20))
    first = len(source.asked)

    picture = collect_fleet(environment="prod", source=source, now=now + timedelta(seconds=25))

    assert len(source.asked) - first == picture.queries == first - 2
    assert set(picture.services["checkout"].rate_history) == {10.0}


def test_figures_are_taken_one_scrape_ago_so_that_late_scrapes_are_in(now: datetime) -> None:
    picture = collect_fleet(
        environment="prod", source=FakeSource(), now=now + timedelta(seconds=1.7)
    )

    assert picture.taken_at == now.timestamp() - 15
    assert picture.collected_at == now.timestamp() + 1.7


def test_registered_services_are_shown_though_nothing_measures_them(
    checkout: Service, now: datetime
) -> None:
    picture = collect_fleet(environment="prod", source=FakeSource(), now=now)

    assert list(picture.services) == ["checkout"]
    assert not picture.services["checkout"].has_data


def test_the_registry_says_which_service_is_behind_a_dependency(
    checkout: Service, now: datetime
) -> None:
    psp = Service.objects.create(
        environment=checkout.environment, slug="psp", team=checkout.team, registered_at=now
    )
    Dependency.objects.create(service=checkout, name="payments", target=psp)

    picture = collect_fleet(
        environment="prod", source=FakeSource(fleet_rows(["checkout"])), now=now
    )

    assert picture.services["psp"].attempts_received_per_request == 2.0


def test_a_refused_query_costs_its_own_figures_only_and_is_named(now: datetime) -> None:
    source = FakeSource(fleet_rows(["checkout"]))
    source.failures["_bucket{"] = QueryRefused("Prometheus refused a query: too many samples")

    picture = collect_fleet(environment="prod", source=source, now=now)

    assert picture.services["checkout"].p95 is None
    assert picture.services["checkout"].rate_per_s == 10.0
    assert "latency: Prometheus refused a query: too many samples" in picture.problems


def test_warnings_of_a_partial_answer_are_kept_once(now: datetime) -> None:
    source = FakeSource(fleet_rows(["checkout"]), warnings=("a store did not answer",))

    picture = collect_fleet(environment="prod", source=source, now=now)

    assert len(picture.problems) == len(set(picture.problems))
    assert "requests: a store did not answer" in picture.problems


def test_a_dead_source_is_asked_once_and_its_failure_is_recorded(now: datetime) -> None:
    source = FakeSource(fleet_rows(["checkout"]))
    collect_fleet(environment="prod", source=source, now=now)
    asked = len(source.asked)
    source.failure = SourceUnavailable("Prometheus cannot be reached: connection refused")

    for seconds in (5, 10):
        with pytest.raises(SourceUnavailable):
            collect_fleet(environment="prod", source=source, now=now + timedelta(seconds=seconds))

    status = read_status("prod")
    assert len(source.asked) == asked + 2
    assert status.failing_since == (now + timedelta(seconds=5)).timestamp()
    assert (status.ticks, status.failures) == (3, 2)


def test_a_query_without_an_answer_costs_its_own_figures_only_and_is_named(now: datetime) -> None:
    source = FakeSource(fleet_rows(["checkout"]))
    source.failures["tidegate_client_attempts"] = QueryFailed("Prometheus answered 503: overloaded")

    picture = collect_fleet(environment="prod", source=source, now=now)

    assert picture.services["checkout"].attempts_per_request is None
    assert picture.services["checkout"].rate_per_s == 10.0
    assert picture.problems == ("client attempts: Prometheus answered 503: overloaded",)
    assert read_status("prod").failing_since is None


def test_the_first_query_of_a_tick_may_fail_like_any_other(now: datetime) -> None:
    source = FakeSource(fleet_rows(["checkout"]))
    source.failures["_count{"] = QueryFailed("Prometheus gave a query up (timeout)")

    picture = collect_fleet(environment="prod", source=source, now=now)

    assert picture.services["checkout"].rate_per_s is None
    assert picture.services["checkout"].inflight == 7.0


def test_a_source_that_answers_no_query_at_all_makes_no_picture(now: datetime) -> None:
    source = FakeSource(fleet_rows(["checkout"]))
    source.failure = QueryFailed("Prometheus answered 503: TSDB not ready")

    with pytest.raises(SourceUnavailable, match="TSDB not ready"):
        collect_fleet(environment="prod", source=source, now=now)

    assert read_picture("prod", now).picture is None


def test_a_source_that_dies_in_the_middle_of_a_tick_replaces_nothing(now: datetime) -> None:
    source = FakeSource(fleet_rows(["checkout"]))
    collect_fleet(environment="prod", source=source, now=now)
    source.failures["tidegate_tenant"] = SourceUnavailable("Prometheus answered 503: overloaded")

    with pytest.raises(SourceUnavailable):
        collect_fleet(environment="prod", source=source, now=now + timedelta(seconds=5))

    read = read_picture("prod", now + timedelta(seconds=5))
    assert read.picture is not None
    assert read.picture.collected_at == now.timestamp()


def test_only_one_tick_runs_at_a_time_and_skipped_ones_are_counted() -> None:
    with sole_collector("prod") as first, sole_collector("prod") as second:
        assert (first, second) == (True, False)

    with sole_collector("prod") as third:
        assert third
    assert read_status("prod").skipped == 1

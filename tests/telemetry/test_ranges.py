from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.core.cache import cache
from redis.exceptions import ConnectionError as CacheRefuses

from controlplane.kernel.errors import InvalidInput
from controlplane.registry.models import Dependency, Service
from controlplane.telemetry.domain.signals import Breakdown, BreakerState, Signal
from controlplane.telemetry.selectors import Freshness
from controlplane.telemetry.services.ranges import RangeRead, read_breaker_timeline, read_range
from controlplane.telemetry.sources.fake import FakeSource
from controlplane.telemetry.sources.port import QueryRefused, SourceUnavailable
from tests.telemetry.samples import fleet_rows

pytestmark = pytest.mark.django_db

ROUTE = {"service": "checkout", "http_request_method": "POST", "http_route": "/orders"}


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(fleet_rows(["checkout"]))


def last_values(read: RangeRead) -> dict[str, float | None]:
    return {series.name: series.points[-1][1] for series in read.series}


def read(
    signal: Signal,
    source: FakeSource,
    now: datetime,
    by: Breakdown | str | None = None,
    dependency: str | None = None,
) -> RangeRead:
    return read_range(
        signal,
        "prod",
        "checkout",
        range_s=900,
        now=now,
        by=by,
        dependency=dependency,
        source=source,
    )


def test_charts_that_ask_the_same_question_keep_their_own_lines(
    source: FakeSource, now: datetime
) -> None:
    """Nothing clears the cache in between, as in production."""
    first = {
        signal: last_values(read(signal, source, now, "endpoint"))
        for signal in (Signal.P50, Signal.P95, Signal.P99)
    }
    asked = len(source.asked)
    again = {
        signal: last_values(read(signal, source, now, "endpoint"))
        for signal in (Signal.P99, Signal.P50, Signal.P95)
    }

    assert first[Signal.P50] == {"POST /orders": 0.1}
    assert first[Signal.P95] == {"POST /orders": 1.0}
    assert again == first
    assert len(source.asked) == asked, "the second look is answered by the cache"


@pytest.mark.parametrize(
    ("signal", "by", "expected"),
    [
        (Signal.RATE, None, {"all": 10.0}),
        (Signal.RATE, "endpoint", {"POST /orders": 10.0}),
        (Signal.ERROR_RATIO, None, {"all": 0.05}),
        (Signal.ERROR_RATIO, "endpoint", {"POST /orders": 0.05}),
        (Signal.LATENCY, None, {"p50": 0.1, "p95": 1.0, "p99": 1.0}),
        (Signal.P95, "endpoint", {"POST /orders": 1.0}),
        (Signal.ATTEMPTS_PER_REQUEST, None, {"all": 2.0}),
        (Signal.ATTEMPTS_PER_REQUEST, "dependency", {"payments": 2.0}),
        (Signal.REJECTED, "reason", {"shed": 1.0}),
        (Signal.TENANTS, "tenant", {"acme": 4.0}),
        (Signal.INFLIGHT, None, {"all": 7.0}),
        (Signal.WOULD_REJECT, "reason", {}),
    ],
)
def test_a_chart_draws_one_line_per_member(
    signal: Signal,
    by: str | None,
    expected: dict[str, float],
    source: FakeSource,
    now: datetime,
) -> None:
    found = read(signal, source, now, by)

    assert last_values(found) == expected
    assert (found.state, found.reason) == (Freshness.LIVE, "")


def test_every_signal_has_a_chart_for_each_of_its_breakdowns(
    source: FakeSource, now: datetime
) -> None:
    for signal in Signal:
        for by in (None, *signal.breakdowns):
            assert read(signal, source, now, by).state is Freshness.LIVE


def test_status_codes_are_drawn_by_class(now: datetime) -> None:
    rows = [
        ({"service": "checkout", "http_response_status_code": code}, 1.0)
        for code in ("200", "204", "429", "503", "")
    ]

    found = read(Signal.RATE, FakeSource({"sum": rows}), now, Breakdown.STATUS_CLASS)

    assert last_values(found) == {"2xx": 2.0, "4xx": 1.0, "5xx": 1.0, "no response": 1.0}


def test_a_quantile_in_the_last_bucket_is_marked_at_its_points(
    source: FakeSource, now: datetime
) -> None:
    p50, _, p99 = read(Signal.LATENCY, source, now).series

    assert p50.capped == ()
    assert all(p99.capped)


def test_a_gap_is_a_gap(now: datetime) -> None:
    rows = fleet_rows(["checkout"])
    half = now.timestamp() - 400
    source = FakeSource(rows, value_at=lambda at_s, value: value if at_s > half else None)

    points = read(Signal.RATE, source, now).series[0].points

    assert {value for at_s, value in points if at_s <= half} == {None}
    assert {value for at_s, value in points if at_s > half} == {10.0}


def test_points_lie_on_one_grid_whenever_one_looks(source: FakeSource, now: datetime) -> None:
    first = read(Signal.RATE, source, now + timedelta(seconds=1))
    asked = len(source.asked)

    second = read(Signal.RATE, source, now + timedelta(seconds=13))

    assert first.step_s == 15
    assert len(first.series[0].points) == 61
    assert second == first
    assert len(source.asked) == asked


def test_the_next_step_asks_again(source: FakeSource, now: datetime) -> None:
    read(Signal.RATE, source, now)
    asked = len(source.asked)

    later = read(Signal.RATE, source, now + timedelta(seconds=15))

    assert len(source.asked) == asked + 1
    assert later.as_of == now


def test_when_prometheus_is_down_the_last_answer_is_shown_and_says_so(
    source: FakeSource, now: datetime
) -> None:
    read(Signal.RATE, source, now)
    source.failure = SourceUnavailable("Prometheus cannot be reached: connection refused")

    found = read(Signal.RATE, source, now + timedelta(minutes=5))

    assert found.state is Freshness.STALE
    assert found.as_of == now - timedelta(seconds=15)
    assert found.reason == (
        "Prometheus cannot be reached: connection refused; this is the answer of 02:13:45 UTC."
    )


@pytest.mark.parametrize("error", [SourceUnavailable("no route"), QueryRefused("too many")])
def test_without_an_earlier_answer_the_chart_is_unavailable_with_the_reason(
    error: SourceUnavailable | QueryRefused, source: FakeSource, now: datetime
) -> None:
    source.failure = error

    found = read(Signal.RATE, source, now)

    assert (found.state, found.reason) == (Freshness.UNAVAILABLE, error.message)
    assert (found.series, found.as_of) == ((), None)


def test_a_partial_answer_is_marked_and_not_kept(source: FakeSource, now: datetime) -> None:
    source.warnings = ("a store did not answer",)
    first = read(Signal.RATE, source, now)
    source.warnings = ()

    second = read(Signal.RATE, source, now)

    assert first.reason == "a store did not answer"
    assert second.reason == ""


def test_without_the_shared_cache_charts_still_come_from_prometheus(
    source: FakeSource, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise CacheRefuses("connection refused")

    for name in ("get", "set"):
        monkeypatch.setattr(cache, name, refuse)

    assert last_values(read(Signal.RATE, source, now)) == {"all": 10.0}


def test_attempts_received_ask_for_the_registered_callers(
    source: FakeSource, checkout: Service, now: datetime
) -> None:
    payments = Service.objects.create(
        environment=checkout.environment, slug="payments", team=checkout.team, registered_at=now
    )
    Dependency.objects.create(service=checkout, name="psp", target=payments)
    rows = [
        ({"service": "checkout", "dependency": "psp", "outcome": "success"}, 2.0),
        ({"service": "stranger", "dependency": "psp", "outcome": "success"}, 9.0),
    ]
    source = FakeSource({"client_requests": rows, "client_attempts": rows})

    found = read_range(
        Signal.ATTEMPTS_RECEIVED, "prod", "payments", range_s=900, now=now, source=source
    )

    assert 'service=~"checkout",dependency=~"psp"' in source.asked[0]
    assert last_values(found) == {"all": 1.0}


@pytest.mark.parametrize("range_s", [0, -60, 59, 604_801])
def test_a_range_out_of_bounds_is_refused(range_s: int, source: FakeSource, now: datetime) -> None:
    with pytest.raises(InvalidInput, match="a range is 60 to 604800 seconds") as caught:
        read_range(Signal.RATE, "prod", "checkout", range_s=range_s, now=now, source=source)

    assert caught.value.field == "range_s"


@pytest.mark.parametrize(
    ("signal", "by", "message"),
    [
        (
            Signal.RATE,
            "tenant",
            "rate cannot be broken down by 'tenant'; it takes one of: endpoint",
        ),
        (Signal.INFLIGHT, "moon", "it takes no breakdown"),
    ],
)
def test_a_breakdown_the_signal_does_not_have_is_refused(
    signal: Signal, by: str, message: str, source: FakeSource, now: datetime
) -> None:
    with pytest.raises(InvalidInput, match=message):
        read(signal, source, now, by)


@pytest.mark.parametrize("range_s", [60, 900, 3600, 6 * 3600, 86_400, 604_800])
def test_no_range_has_more_points_than_a_chart_can_show(
    range_s: int, source: FakeSource, now: datetime
) -> None:
    found = read_range(Signal.RATE, "prod", "checkout", range_s=range_s, now=now, source=source)

    assert 2 <= len(found.series[0].points) <= 301


def test_a_breaker_timeline_shows_the_worst_state_and_its_share(now: datetime) -> None:
    edge = {"service": "checkout", "dependency": "payments"}
    source = FakeSource(
        {
            "max_over_time": [
                (edge | {"state": "closed"}, 3.0),
                (edge | {"state": "open"}, 1.0),
                (edge | {"state": "half_open"}, 0.0),
            ],
            "count by": [(edge, 4.0)],
        },
        value_at=lambda at_s, value: value if at_s > now.timestamp() - 300 else None,
    )

    found = read_breaker_timeline("prod", "checkout", range_s=900, now=now, source=source)
    again = read_breaker_timeline("prod", "checkout", range_s=900, now=now, source=source)

    (payments,) = found.rows
    assert payments.dependency == "payments"
    assert (payments.steps[-1].state, payments.steps[-1].share) == (BreakerState.OPEN, 0.25)
    assert (payments.steps[0].state, payments.steps[0].share) == (None, None)
    assert again == found
    assert len(source.asked) == 2

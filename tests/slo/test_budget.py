from __future__ import annotations

import pytest

from controlplane.kernel.errors import InvalidInput
from controlplane.slo.domain.budget import (
    Counts,
    budget_remaining,
    coverage_text,
    lowest_likely_ratio,
)
from controlplane.slo.domain.burn import (
    BurnState,
    burn_rate,
    burn_state,
    confirmed_burn,
    hours_to_exhaustion,
    page_factor,
)
from controlplane.slo.domain.objective import Kind, check_objective
from controlplane.telemetry.domain.dialects.native import BUCKET_BOUNDS_S

NONE = Counts()


def test_half_of_the_budget_spent_leaves_half() -> None:
    assert budget_remaining(Counts(10_000, 5), 0.999) == pytest.approx(0.5)


def test_an_overspent_budget_is_negative_by_what_is_overspent() -> None:
    assert budget_remaining(Counts(1000, 10), 0.999) == pytest.approx(-9.0)


def test_no_traffic_says_nothing_about_a_budget() -> None:
    assert budget_remaining(NONE, 0.999) is None
    assert burn_rate(NONE, 0.999) is None
    assert confirmed_burn(NONE, NONE, 0.999) is None
    assert burn_state(NONE, NONE, target=0.999, window_days=30, remaining=None) is (
        BurnState.NO_DATA
    )


def test_counts_add_up_where_means_of_ratios_would_not() -> None:
    busy, quiet = Counts(10_000, 10), Counts(10, 5)

    assert budget_remaining(busy + quiet, 0.99) == pytest.approx(1 - (15 / 10_010) / 0.01)


@pytest.mark.parametrize(("window_days", "factor"), [(30, 14.4), (28, 13.44), (7, 3.36)])
def test_the_paging_factor_is_the_workbooks(window_days: int, factor: float) -> None:
    assert page_factor(window_days) == pytest.approx(factor)


@pytest.mark.parametrize(("requests", "needed"), [(50, 3), (100, 4), (200, 6), (1000, 21)])
def test_few_requests_need_several_failures_before_a_fast_burn_is_believed(
    requests: int, needed: int
) -> None:
    limit = 14.4 * 0.001

    believed = lowest_likely_ratio(Counts(requests, needed))
    doubted = lowest_likely_ratio(Counts(requests, needed - 1))

    assert believed is not None
    assert doubted is not None
    assert doubted <= limit < believed


@pytest.mark.parametrize(
    ("long", "short", "remaining", "state"),
    [
        (Counts(10_000, 500), Counts(1000, 50), 0.5, BurnState.FIRING),
        (Counts(10_000, 500), Counts(1000, 0), 0.5, BurnState.RECOVERING),
        (Counts(10_000, 5), Counts(1000, 50), 0.5, BurnState.RISING),
        (Counts(10_000, 5), Counts(1000, 0), 0.5, BurnState.OK),
        (Counts(10_000, 5), Counts(1000, 0), -0.1, BurnState.EXHAUSTED),
        (NONE, NONE, 0.5, BurnState.OK),
    ],
    ids=["both", "long only", "short only", "neither", "spent", "quiet hour"],
)
def test_the_two_windows_together_name_the_state(
    long: Counts, short: Counts, remaining: float, state: BurnState
) -> None:
    assert burn_state(long, short, target=0.999, window_days=30, remaining=remaining) is state


def test_a_burn_is_confirmed_only_while_it_goes_on() -> None:
    over = confirmed_burn(Counts(10_000, 500), Counts(1000, 0), 0.999)
    going_on = confirmed_burn(Counts(10_000, 500), Counts(1000, 20), 0.999)

    assert over == 0.0
    assert going_on == pytest.approx(20.0)


def test_one_failure_of_a_quiet_service_is_no_fast_burn() -> None:
    burn = confirmed_burn(Counts(50, 1), Counts(10, 1), 0.999)

    assert burn is not None
    assert burn < 6


def test_the_time_to_exhaustion_follows_from_what_is_left() -> None:
    assert hours_to_exhaustion(0.5, 15.0, 30) == pytest.approx(24.0)
    assert hours_to_exhaustion(-0.1, 15.0, 30) is None
    assert hours_to_exhaustion(0.5, 0.0, 30) is None


@pytest.mark.parametrize(
    ("covered_s", "text"),
    [
        (0, "over nothing yet of 30 days"),
        (90, "over 1 min of 30 days"),
        (2 * 3600 + 600, "over 2 h 10 min of 30 days"),
        (3 * 86400, "over 3 days 0 h of 30 days"),
        (30 * 86400, "over 30 days"),
    ],
)
def test_a_budget_says_over_how_much_history_it_is_computed(covered_s: float, text: str) -> None:
    assert coverage_text(covered_s, 30) == text


@pytest.mark.parametrize(
    ("kind", "target", "threshold_ms", "days", "message"),
    [
        (Kind.LATENCY, 0.99, 450.0, 30, "only counted at the bounds of the histogram's buckets"),
        (Kind.LATENCY, 0.99, None, 30, "only counted at the bounds"),
        (Kind.AVAILABILITY, 0.999, 500.0, 30, "availability has no threshold"),
        (Kind.AVAILABILITY, 99.9, None, 30, "a target is a ratio of 0.5 to 0.99999"),
        (Kind.AVAILABILITY, 1.0, None, 30, "a target is a ratio"),
        (Kind.AVAILABILITY, 0.999, None, 0, "a window is 1 to 90 days"),
    ],
)
def test_an_objective_nothing_can_measure_is_refused_with_what_would_be_right(
    kind: Kind, target: float, threshold_ms: float | None, days: int, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_objective(
            kind,
            target=target,
            threshold_ms=threshold_ms,
            window_days=days,
            bounds_s=BUCKET_BOUNDS_S,
        )


@pytest.mark.parametrize("threshold_ms", [5.0, 25.0, 75.0, 100.0, 500.0, 1000.0, 10000.0])
def test_every_bound_of_the_histogram_may_be_a_threshold(threshold_ms: float) -> None:
    check_objective(
        Kind.LATENCY,
        target=0.99,
        threshold_ms=threshold_ms,
        window_days=30,
        bounds_s=BUCKET_BOUNDS_S,
    )

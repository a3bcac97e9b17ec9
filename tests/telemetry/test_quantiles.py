from __future__ import annotations

import math

import pytest

from controlplane.telemetry.domain.quantiles import Quantile, bound_of, fraction_within, quantile

INF = math.inf


def test_a_quantile_is_interpolated_inside_its_bucket() -> None:
    assert quantile(0.5, {0.25: 0.0, 0.5: 10.0, INF: 10.0}) == Quantile(0.375)


def test_a_quantile_beyond_the_last_finite_bucket_says_that_it_is_capped() -> None:
    assert quantile(0.99, {1.0: 90.0, 10.0: 95.0, INF: 100.0}) == Quantile(10.0, capped=True)


@pytest.mark.parametrize(
    "buckets",
    [{}, {INF: 5.0}, {1.0: 0.0, INF: 0.0}, {0.5: 1.0, 1.0: 2.0}],
    ids=["nothing", "only inf", "no observation", "no inf bucket"],
)
def test_without_observations_there_is_no_quantile(buckets: dict[float, float]) -> None:
    assert quantile(0.95, buckets) is None


def test_one_bound_written_in_two_ways_is_one_bound() -> None:
    assert bound_of("1") == bound_of("1.0") == bound_of("1e+00")


@pytest.mark.parametrize("text", ["", "fast", "NaN"])
def test_a_bound_that_is_not_a_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"could not convert|NaN"):
        bound_of(text)


def test_the_share_within_a_bound_needs_that_very_bound() -> None:
    buckets = {0.5: 3.0, 1.0: 4.0, INF: 4.0}

    assert fraction_within(0.5, buckets) == 0.75
    assert fraction_within(0.6, buckets) is None

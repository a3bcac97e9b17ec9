"""Quantiles of classic histograms, as Prometheus computes them, that admit when they are capped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Float sums of cumulative buckets may come out a hair out of order.
_TOLERANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Quantile:
    """A latency. When `capped`, the true value is at least `seconds`: read it as "≥ 10 s"."""

    seconds: float
    capped: bool = False


def bound_of(le: str) -> float:
    """The number an `le` label stands for: "1", "1.0" and "1e+00" are one bound.

    Raises:
        ValueError: the text is not a number.
    """
    bound = float(le)
    if math.isnan(bound):
        raise ValueError("NaN is not a bucket bound")
    return bound


def quantile(q: float, cumulative: Mapping[float, float]) -> Quantile | None:
    """The `q` quantile of `cumulative` counts (or rates) by upper bound, `inf` included.

    Interpolates linearly inside a bucket. None when there is no observation or no `inf` bucket.
    """
    bounds = sorted(cumulative)
    if len(bounds) < 2 or not math.isinf(bounds[-1]):
        return None
    total = cumulative[bounds[-1]]
    if not total > _TOLERANCE:
        return None
    rank = q * total
    lower_bound, lower_count = 0.0, 0.0
    for bound in bounds[:-1]:
        count = max(cumulative[bound], lower_count)
        if count >= rank and count > lower_count:
            start = lower_bound if bound > 0 else bound
            share = (rank - lower_count) / (count - lower_count)
            return Quantile(start + (bound - start) * share)
        lower_bound, lower_count = bound, count
    return Quantile(bounds[-2], capped=True)


def fraction_within(bound_s: float, cumulative: Mapping[float, float]) -> float | None:
    """The share of observations at or below `bound_s`; None unless it is one of the bounds."""
    total = cumulative.get(math.inf)
    if bound_s not in cumulative or not total or total <= _TOLERANCE:
        return None
    return min(1.0, cumulative[bound_s] / total)

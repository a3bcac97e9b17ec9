"""Burn rates: how many times faster than the budget allows it is being spent.

Multi-window alerting of "The Site Reliability Workbook", chapter 5: a long window says that it
matters, a short one (a twelfth) that it still goes on.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from controlplane.slo.domain.budget import Counts, error_ratio, lowest_likely_ratio

LONG_WINDOW = timedelta(hours=1)
SHORT_WINDOW = timedelta(minutes=5)
PAGE_BUDGET_SHARE = 0.02  # of the budget, spent within LONG_WINDOW: 14.4 times for 30 days


class BurnState(StrEnum):
    """What the two windows say together."""

    FIRING = "firing"
    RECOVERING = "recovering"
    RISING = "rising"
    EXHAUSTED = "exhausted"
    OK = "ok"
    NO_DATA = "no_data"


def burn_rate(counts: Counts, target: float) -> float | None:
    """`b(w) = e(w) / B`; 1 spends exactly the budget in its window. None without traffic."""
    ratio = error_ratio(counts)
    return None if ratio is None else ratio / (1.0 - target)


def confirmed_burn(long: Counts, short: Counts, target: float) -> float | None:
    """The burn rate that both windows agree on, as far as the traffic of the long one proves it.

    None without traffic in the long window; a quiet short window shows no burn.
    """
    likely = lowest_likely_ratio(long)
    if likely is None:
        return None
    return min(likely / (1.0 - target), burn_rate(short, target) or 0.0)


def page_factor(window_days: int) -> float:
    """`f = x * P / L`: the burn rate that spends PAGE_BUDGET_SHARE of the budget in LONG_WINDOW."""
    return PAGE_BUDGET_SHARE * (timedelta(days=window_days) / LONG_WINDOW)


def burn_state(
    long: Counts, short: Counts, *, target: float, window_days: int, remaining: float | None
) -> BurnState:
    """The state of one objective; a fast burn outranks a spent budget."""
    if remaining is None:
        return BurnState.NO_DATA
    # A factor whose error ratio passes 1 could never fire: all requests failing must.
    limit = min(page_factor(window_days) * (1.0 - target), 0.9)
    is_long = (lowest_likely_ratio(long) or 0.0) > limit
    is_short = (error_ratio(short) or 0.0) > limit
    if is_long and is_short:
        return BurnState.FIRING
    if remaining < 0:
        return BurnState.EXHAUSTED
    if is_long:
        return BurnState.RECOVERING
    return BurnState.RISING if is_short else BurnState.OK


def hours_to_exhaustion(
    remaining: float | None, burn: float | None, window_days: int
) -> float | None:
    """`r * P / b`, in hours; None when nothing burns or nothing is left."""
    if remaining is None or burn is None or remaining <= 0 or burn <= 0:
        return None
    return remaining * window_days * 24 / burn

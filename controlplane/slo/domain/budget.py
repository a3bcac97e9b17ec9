"""Error budgets from counts (Google, "The Site Reliability Workbook", chapter 2 and 5).

Counts, never ratios: sums of counts are exact over any window, means of ratios are not. No
traffic changes nothing, and a budget that is overspent is negative, by how much it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z_95 = 1.645  # standard deviations of a one-sided 95% bound


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of some window, and how many of them missed the objective."""

    total: float = 0.0
    bad: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.total + other.total, self.bad + other.bad)


def error_ratio(counts: Counts) -> float | None:
    """`e(w) = bad(w) / total(w)`; None without traffic."""
    return counts.bad / counts.total if counts.total > 0 else None


def budget_remaining(counts: Counts, target: float) -> float | None:
    """`1 - e(P) / B` with `B = 1 - target`, in (-inf, 1]; None without traffic."""
    ratio = error_ratio(counts)
    return None if ratio is None else 1.0 - ratio / (1.0 - target)


def lowest_likely_ratio(counts: Counts) -> float | None:
    """Wilson's lower 95% bound of the error ratio; None without traffic.

    One failure in fifty requests is no evidence of a 2% error ratio: for 99.9% it takes three
    before a fast burn can be believed.
    """
    ratio = error_ratio(counts)
    if ratio is None:
        return None
    n, z2 = counts.total, _Z_95**2
    ratio = min(1.0, ratio)
    centre = ratio + z2 / (2 * n)
    spread = _Z_95 * math.sqrt(ratio * (1 - ratio) / n + z2 / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z2 / n))


def coverage_text(covered_s: float, window_days: int) -> str:
    """Over how much history a budget is computed: "over 2 h 10 min of 30 days"."""
    whole = f"{window_days} days"
    if covered_s <= 0:
        return f"over nothing yet of {whole}"
    if covered_s >= window_days * 86400 - 3600:
        return f"over {whole}"
    minutes = int(covered_s // 60)
    if minutes < 60:
        return f"over {max(1, minutes)} min of {whole}"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"over {hours} h {minutes} min of {whole}"
    return f"over {hours // 24} days {hours % 24} h of {whole}"

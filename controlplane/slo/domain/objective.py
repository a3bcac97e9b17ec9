"""What an objective promises, and which promises can be measured."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from controlplane.kernel.errors import InvalidInput

LOWEST_TARGET, HIGHEST_TARGET = 0.5, 0.99999
LONGEST_WINDOW_DAYS = 90


class Kind(StrEnum):
    """What counts as a good request: one without a server fault, or one answered in time."""

    AVAILABILITY = "availability"
    LATENCY = "latency"


def check_objective(
    kind: Kind,
    *,
    target: float,
    threshold_ms: float | None,
    window_days: int,
    bounds_s: Sequence[float],
) -> None:
    """Refuse an objective that nothing can measure.

    Args:
        bounds_s: the bucket bounds of the histogram that measures latency: between two of them
            nobody knows how many requests were in time.

    Raises:
        InvalidInput: names the field and what would be right.
    """
    if not LOWEST_TARGET <= target <= HIGHEST_TARGET:
        raise InvalidInput(
            f"a target is a ratio of {LOWEST_TARGET:g} to {HIGHEST_TARGET:g}, such as 0.999",
            field="target",
        )
    if not 1 <= window_days <= LONGEST_WINDOW_DAYS:
        raise InvalidInput(f"a window is 1 to {LONGEST_WINDOW_DAYS} days", field="window_days")
    if kind is Kind.AVAILABILITY:
        if threshold_ms is not None:
            raise InvalidInput("availability has no threshold", field="threshold_ms")
        return
    allowed_ms = [bound_s * 1000 for bound_s in bounds_s]
    if threshold_ms not in allowed_ms:
        listed = ", ".join(f"{bound:g}" for bound in allowed_ms)
        raise InvalidInput(
            f"latency is only counted at the bounds of the histogram's buckets: {listed} ms",
            field="threshold_ms",
        )


def objective_name(kind: str, threshold_ms: float | None) -> str:
    """A name for people: "availability", "latency under 500 ms"."""
    if kind == Kind.AVAILABILITY or threshold_ms is None:
        return str(kind)
    return f"latency under {threshold_ms:g} ms"

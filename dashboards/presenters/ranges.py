"""The time ranges a chart may show; the chosen one is in the URL."""

from __future__ import annotations

from dataclasses import dataclass

RANGES = (("15m", 900), ("1h", 3600), ("6h", 6 * 3600), ("24h", 24 * 3600))
DEFAULT_RANGE = "1h"


@dataclass(frozen=True, slots=True)
class RangeChoice:
    """One entry of the range switch."""

    key: str
    seconds: int
    is_current: bool


def range_choices(asked: str) -> tuple[RangeChoice, ...]:
    """Every range, the asked one current; the default when `asked` is none of them."""
    current = asked if asked in dict(RANGES) else DEFAULT_RANGE
    return tuple(RangeChoice(key, seconds, key == current) for key, seconds in RANGES)


def current_range(choices: tuple[RangeChoice, ...]) -> RangeChoice:
    """The one in force."""
    return next(choice for choice in choices if choice.is_current)

"""How figures read on pages: one place for units, rounding and what "missing" looks like.

Every filter prints an em dash for None: missing is never zero.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

MISSING = "—"


class Capped(Protocol):
    """A latency quantile that may lie in the last histogram bucket."""

    @property
    def seconds(self) -> float:
        """The estimate, or the lower bound when capped."""

    @property
    def capped(self) -> bool:
        """Whether the true value is higher than the histogram can say."""


@register.filter
def percent(ratio: float | None) -> str:
    """0.061 -> "6.1%"; small but not zero reads "<0.1%"."""
    if ratio is None:
        return MISSING
    value = ratio * 100
    if value == 0:
        return "0%"
    if 0 < value < 0.1:
        return "<0.1%"
    if abs(value) < 10:
        return f"{value:.1f}%"
    return f"{value:,.0f}%"


@register.filter
def rate(per_s: float | None) -> str:
    """5800 -> "5.8k", 412.3 -> "412", 0.42 -> "0.4"."""
    if per_s is None:
        return MISSING
    if per_s == 0:
        return "0"
    if per_s < 0.1:
        return "<0.1"
    if per_s < 10:
        return f"{per_s:.1f}"
    if per_s < 5000:
        return f"{per_s:,.0f}"
    return f"{per_s / 1000:,.1f}k"


@register.filter
def per_s(value: float | None) -> str:
    """A rate with its unit: "412 /s"; missing has none."""
    return MISSING if value is None else f"{rate(value)} /s"


@register.filter
def latency(seconds: float | None) -> str:
    """0.84 -> "840 ms", 2.9 -> "2.9 s"."""
    if seconds is None:
        return MISSING
    if seconds < 0.001:
        return "<1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:,.0f} s"


@register.filter
def quantile(value: Capped | None) -> str:
    """A latency quantile: "840 ms", or "≥ 10 s" when it lies in the last bucket."""
    if value is None:
        return MISSING
    return f"≥ {latency(value.seconds)}" if value.capped else latency(value.seconds)


@register.filter
def times(factor: float | None) -> str:
    """2.314 -> "2.31×"; from 10 up without decimals after the first."""
    if factor is None:
        return MISSING
    return f"{factor:.2f}×" if factor < 10 else f"{factor:,.1f}×"


@register.filter
def count(number: float | None) -> str:
    """18204 -> "18,204"."""
    return MISSING if number is None else f"{number:,.0f}"


@register.filter
def span(seconds: float | None) -> str:
    """A duration: "20 s", "18 m", "2 h 4 m", "3 d 1 h"; never negative."""
    if seconds is None:
        return MISSING
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} m"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} m" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


@register.filter
def brief_span(seconds: float | None) -> str:
    """A short measured time: "0.3 s", "0.04 s", "12 s"."""
    if seconds is None:
        return MISSING
    if seconds < 0.1:
        return f"{max(seconds, 0):.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return span(seconds)


def _time(at: datetime, text: str) -> SafeString:
    utc = at.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        utc.isoformat(timespec="seconds").replace("+00:00", "Z"),
        f"{utc:%Y-%m-%d %H:%M:%S}",
        text,
    )


@register.simple_tag
def clock(at: datetime | None) -> str:
    """`<time>` that reads "02:14:07"."""
    return MISSING if at is None else _time(at, f"{at.astimezone(UTC):%H:%M:%S}")


@register.simple_tag
def moment(at: datetime | None) -> str:
    """`<time>` that reads "2 Nov 02:14"."""
    if at is None:
        return MISSING
    utc = at.astimezone(UTC)
    return _time(at, f"{utc.day} {utc:%b %H:%M}")


@register.filter
def percent_exact(ratio: float | None) -> str:
    """0.999 -> "99.9%", 0.9995 -> "99.95%": targets, which rounding would falsify."""
    return MISSING if ratio is None else f"{round(ratio * 100, 6):g}%"


@register.filter
def factor(value: float | None) -> str:
    """A burn rate: "0.4×", "14.2×", "120×"."""
    if value is None:
        return MISSING
    return f"{value:,.1f}×" if value < 100 else f"{value:,.0f}×"

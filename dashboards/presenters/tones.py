"""When a figure is drawn as a warning or as bad: one table of thresholds."""

from __future__ import annotations

from controlplane.telemetry.domain.quantiles import Quantile

WARN, BAD, CALM = "warnv", "bad", ""


def _from(value: float | None, warn: float, bad: float) -> str:
    if value is None or value < warn:
        return CALM
    return BAD if value >= bad else WARN


def error_tone(ratio: float | None) -> str:
    """1% warns, 5% is bad."""
    return _from(ratio, 0.01, 0.05)


def latency_tone(quantile: Quantile | None) -> str:
    """1 s warns, 2 s or beyond the last bucket is bad."""
    if quantile is None:
        return CALM
    return BAD if quantile.capped else _from(quantile.seconds, 1.0, 2.0)


def attempts_tone(factor: float | None) -> str:
    """1.2 warns, 1.5 is bad: a 10% retry budget allows 1.1."""
    return _from(factor, 1.2, 1.5)


def shed_tone(ratio: float | None) -> str:
    """5% warns, 20% is bad."""
    return _from(ratio, 0.05, 0.2)


def budget_tone(remaining: float | None) -> str:
    """Under 70% left warns, under 25% is bad."""
    return CALM if remaining is None else _from(1 - remaining, 0.3, 0.75)


def usage_tone(share: float | None) -> str:
    """80% of a limit warns, 95% is bad."""
    return _from(share, 0.8, 0.95)

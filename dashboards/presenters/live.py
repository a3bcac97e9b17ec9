"""The live value beside each control: what the field is about, measured now.

Limits are per instance, so a fleet-wide figure is divided by the instances that report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.telemetry.domain.picture import (
    DependencySignals,
    EndpointSignals,
    ServiceSignals,
    TenantSignals,
)
from controlplane.telemetry.domain.quantiles import Quantile
from dashboards.templatetags.figures import MISSING, latency, percent, quantile, rate, times

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Live:
    """A live value in words, and as a number in the unit of the control (percent for ratios)."""

    text: str
    mark: float | None = None


NOTHING = Live("")


def live_of(parts: Parts, signals: ServiceSignals) -> Live:
    """The live value for the policy field at `parts`; empty text when there is none to show."""
    if parts[:2] == ("outbound", "dependencies") and len(parts) > 3:
        seen = signals.dependencies.get(parts[2], DependencySignals())
        return _call(_DEPENDENCY, parts[3:], seen)
    if parts[:2] == ("inbound", "endpoints") and len(parts) > 3:
        endpoint = signals.endpoints.get(parts[2], EndpointSignals())
        return _endpoint(parts[3:], endpoint, signals.instances_reporting)
    if parts[:3] == ("inbound", "tenants", "named") and len(parts) > 4:
        tenant = signals.tenants.get(parts[3], TenantSignals())
        return _tenant(parts[4:], tenant, signals.instances_reporting)
    return _call(_SERVICE, parts, signals)


def dependency_summary(seen: DependencySignals | None) -> str:
    """ "12 requests/s · 2.31× attempts · p95 840 ms · p99 2.9 s"."""
    if seen is None:
        return "no figures now"
    return (
        f"now {rate(seen.rate_per_s)} requests/s · {times(seen.attempts_per_request)} attempts"
        f" · p95 {quantile(seen.p95)} · p99 {quantile(seen.p99)}"
    )


def _call(table: Mapping[Parts, Callable[[Any], Live]], parts: Parts, seen: object) -> Live:
    found = table.get(parts)
    return NOTHING if found is None else found(seen)


def _each(value: float | None, instances: int | None) -> float | None:
    return None if value is None or not instances else value / instances


def _rate_each(value: float | None, instances: int | None) -> Live:
    each = _each(value, instances)
    if each is None:
        return NOTHING
    return Live(f"now {rate(each)} /s each, {rate(value)} /s over {instances}", each)


def _gauge_each(value: float | None, instances: int | None, what: str) -> Live:
    each = _each(value, instances)
    return NOTHING if each is None else Live(f"now {rate(each)} {what} each", each)


def _quantiles(p95: Quantile | None, p99: Quantile | None) -> Live:
    if p99 is None:
        return NOTHING
    mark = None if p99.capped else p99.seconds * 1000
    return Live(f"now p95 {quantile(p95)}, p99 {quantile(p99)}", mark)


def _ratio(value: float | None, what: str) -> Live:
    return NOTHING if value is None else Live(f"now {percent(value)} {what}", value * 100)


def _shed(signals: ServiceSignals) -> Live:
    if signals.shed_ratio is None:
        return NOTHING
    return Live(f"now {percent(signals.shed_ratio)} of requests refused")


def _queue_wait(signals: ServiceSignals) -> Live:
    wait = signals.queue_wait_p95_s
    return NOTHING if wait is None else Live(f"now p95 {latency(wait)}", wait * 1000)


_SERVICE: Mapping[Parts, Callable[[ServiceSignals], Live]] = {
    ("inbound", "shedding", "level"): _shed,
    ("inbound", "deadline_ms"): lambda s: _quantiles(s.p95, s.p99),
    ("inbound", "rate", "per_s"): lambda s: _rate_each(s.rate_per_s, s.instances_reporting),
    ("inbound", "concurrency", "max"): lambda s: _gauge_each(
        s.inflight, s.instances_reporting, "in flight"
    ),
    ("inbound", "concurrency", "queue", "max"): lambda s: _gauge_each(
        s.queue_depth, s.instances_reporting, "queued"
    ),
    ("inbound", "concurrency", "queue", "timeout_ms"): _queue_wait,
}


def _attempts(seen: DependencySignals) -> Live:
    factor = seen.attempts_per_request
    return NOTHING if factor is None else Live(f"now {times(factor)} per request", factor)


def _budget(seen: DependencySignals) -> Live:
    factor = seen.attempts_per_request
    if factor is None:
        return NOTHING
    extra = max(factor - 1, 0)
    return Live(f"now {percent(extra)} ({times(factor)} attempts per request)", extra * 100)


_DEPENDENCY: Mapping[Parts, Callable[[DependencySignals], Live]] = {
    ("retry", "budget", "ratio"): _budget,
    ("retry", "max_attempts"): _attempts,
    ("timeouts", "attempt_ms"): lambda d: _quantiles(d.p95, d.p99),
    ("breaker", "failure_rate"): lambda d: _ratio(d.failure_ratio, "of attempts fail"),
    ("breaker", "slow_call_rate"): lambda d: _ratio(d.slow_ratio, "slower than 1 s"),
    ("breaker", "slow_call_ms"): lambda d: _quantiles(d.p95, d.p99),
}


def _endpoint(parts: Parts, seen: EndpointSignals, instances: int | None) -> Live:
    if parts == ("rate", "per_s"):
        return _rate_each(seen.rate_per_s, instances)
    if parts == ("deadline_ms",):
        return _quantiles(seen.p95, seen.p99)
    return NOTHING


def _tenant(parts: Parts, seen: TenantSignals, instances: int | None) -> Live:
    if parts != ("per_s",):
        return NOTHING
    live = _rate_each(seen.rate_per_s, instances)
    limited = "" if not seen.limited_ratio else f", {percent(seen.limited_ratio)} limited"
    return live if live.text in ("", MISSING) else Live(live.text + limited, live.mark)

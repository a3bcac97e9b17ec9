"""Limits of one service against what is in use, and its tenants.

Limits are per instance; signals are sums over instances. So a limit is drawn times the
instances that report, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.policies.selectors import effective_policy
from controlplane.registry.selectors import get_service
from controlplane.telemetry.domain.health import hot_tenant
from controlplane.telemetry.domain.picture import ServiceSignals
from controlplane.telemetry.selectors import read_picture
from dashboards.charts.geometry import Bar, bar
from dashboards.presenters import tones
from dashboards.presenters.freshness import Freshness, freshness_of
from dashboards.presenters.service import signals_of

REASONS = {
    "rate": "rate limit",
    "tenant_rate": "tenant limit",
    "concurrency": "concurrency",
    "queue_full": "queue full",
    "queue_timeout": "queue timeout",
    "shed": "shed",
    "deadline": "deadline",
    "draining": "draining",
}


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limit: in use, limit per instance, and limit of all instances together."""

    scope: str
    note: str
    used: float | None
    per_instance: float | None
    total: float | None
    unit: str
    mode: str
    share_bar: Bar | None
    tone: str
    section: str


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """Why requests are refused, per second: only what happens, never a row of zeros."""

    name: str
    rejected_per_s: float | None
    would_reject_per_s: float | None


@dataclass(frozen=True, slots=True)
class Limits:
    """The region with all limits of one service."""

    service_slug: str
    instances: int | None
    rows: tuple[LimitRow, ...]
    reasons: tuple[ReasonRow, ...]
    are_refusals_measured: bool
    shed_ratio: float | None
    freshness: Freshness


@dataclass(frozen=True, slots=True)
class TenantRow:
    """One tenant."""

    name: str
    rate_per_s: float | None
    share: float | None
    is_hot: bool
    limit_per_instance: float | None
    limit_source: str
    use_bar: Bar | None
    tone: str
    limited_ratio: float | None
    limited_tone: str


@dataclass(frozen=True, slots=True)
class Tenants:
    """The region with the tenants of one service, heaviest first."""

    service_slug: str
    rows: tuple[TenantRow, ...]
    mode: str
    freshness: Freshness


def present_limits(*, environment: str, service_slug: str, now: datetime) -> Limits:
    """Compare every limit with what is in use.

    Raises:
        NotFound: no such service.
    """
    service = get_service(environment, service_slug)
    read = read_picture(environment, now)
    signals = signals_of(read, service_slug)
    inbound = effective_policy(service, now).policy["inbound"]
    rows = [*_service_limits(inbound, signals), *_endpoint_limits(inbound, signals)]
    names = [
        name
        for name in dict.fromkeys([*REASONS, *signals.would_reject_per_s])
        if signals.rejected_per_s.get(name) or signals.would_reject_per_s.get(name)
    ]
    return Limits(
        service_slug=service_slug,
        instances=signals.instances_reporting,
        rows=tuple(rows),
        reasons=tuple(
            ReasonRow(
                name=REASONS.get(name, name.replace("_", " ")),
                rejected_per_s=signals.rejected_per_s.get(name),
                would_reject_per_s=signals.would_reject_per_s.get(name),
            )
            for name in names
        ),
        are_refusals_measured=bool(signals.rejected_per_s),
        shed_ratio=signals.shed_ratio,
        freshness=freshness_of(read),
    )


def present_tenants(*, environment: str, service_slug: str, now: datetime) -> Tenants:
    """List tenants with their share and their limit, heaviest first.

    Raises:
        NotFound: no such service.
    """
    service = get_service(environment, service_slug)
    read = read_picture(environment, now)
    signals = signals_of(read, service_slug)
    tenants: Mapping[str, Any] = effective_policy(service, now).policy["inbound"]["tenants"]
    named = tenants.get("named") or {}
    names = set(signals.tenants) | set(named)
    hot = hot_tenant(signals)
    rows = [_tenant(name, tenants, signals, is_hot=name == hot) for name in names]
    rows.sort(key=lambda row: (-(row.rate_per_s or 0), row.name))
    return Tenants(
        service_slug=service_slug,
        rows=tuple(rows),
        mode=str(tenants.get("mode", "enforce")),
        freshness=freshness_of(read),
    )


def _service_limits(inbound: Mapping[str, Any], signals: ServiceSignals) -> list[LimitRow]:
    rate, concurrency = inbound["rate"], inbound["concurrency"]
    wait = signals.queue_wait_p95_s
    return [
        _limit("rate", signals.rate_per_s, rate["per_s"], signals, unit=" /s", mode=rate["mode"]),
        _limit("concurrency", signals.inflight, concurrency["max"], signals,
               mode=concurrency["mode"]),
        _limit("queue", signals.queue_depth, concurrency["queue"]["max"], signals,
               mode=concurrency["mode"],
               note="" if wait is None else f"wait p95 {wait * 1000:.0f} ms"),
    ]  # fmt: skip


def _endpoint_limits(inbound: Mapping[str, Any], signals: ServiceSignals) -> list[LimitRow]:
    rows = []
    for name, endpoint in inbound["endpoints"].items():
        rate = endpoint.get("rate")
        if rate is None:
            continue
        seen = signals.endpoints.get(name)
        rows.append(
            _limit(name, None if seen is None else seen.rate_per_s, rate["per_s"], signals,
                   unit=" /s", mode=rate.get("mode", "enforce"), section="endpoints")
        )  # fmt: skip
    return rows


def _limit(
    scope: str,
    used: float | None,
    per_instance: float,
    signals: ServiceSignals,
    *,
    mode: str,
    unit: str = "",
    note: str = "",
    section: str = "limits",
) -> LimitRow:
    instances = signals.instances_reporting
    total = per_instance * instances if instances else None
    share = used / total if used is not None and total else None
    tone = tones.usage_tone(share)
    return LimitRow(
        scope=scope,
        note=note,
        used=used,
        per_instance=per_instance,
        total=total,
        unit=unit,
        mode=mode,
        share_bar=bar(share, tone=tone),
        tone=tone,
        section=section,
    )


def _tenant(
    name: str, tenants: Mapping[str, Any], signals: ServiceSignals, *, is_hot: bool
) -> TenantRow:
    seen = signals.tenants.get(name)
    rate = None if seen is None else seen.rate_per_s
    own = (tenants.get("named") or {}).get(name)
    limit = own or tenants.get("default")
    per_instance = None if limit is None else float(limit["per_s"])
    instances = signals.instances_reporting
    share = rate / signals.rate_per_s if rate is not None and signals.rate_per_s else None
    use = (
        rate / (per_instance * instances)
        if rate is not None and per_instance and instances
        else None
    )
    limited = None if seen is None else seen.limited_ratio
    tone = tones.usage_tone(use)
    return TenantRow(
        name=name,
        rate_per_s=rate,
        share=share,
        is_hot=is_hot,
        limit_per_instance=per_instance,
        limit_source="own" if own is not None else "default" if limit is not None else "",
        use_bar=bar(use, tone=tone),
        tone=tone,
        limited_ratio=limited,
        limited_tone=tones.error_tone(limited),
    )

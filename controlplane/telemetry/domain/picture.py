"""One timestamped picture of the whole fleet, as pages and the API read it.

Every figure may be None: nothing was measured. None is never drawn as zero.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from controlplane.telemetry.domain.quantiles import Quantile

History = tuple[float | None, ...]

_DIGITS = 6  # significant: more than any page shows


@dataclass(frozen=True, slots=True)
class EndpointSignals:
    """One endpoint, such as "POST /orders"."""

    rate_per_s: float | None = None
    error_ratio: float | None = None
    p50: Quantile | None = None
    p95: Quantile | None = None
    p99: Quantile | None = None


@dataclass(frozen=True, slots=True)
class DependencySignals:
    """Calls from one service to one dependency, as the caller measures them."""

    rate_per_s: float | None = None
    attempts_per_s: float | None = None
    attempts_per_request: float | None = None
    failure_ratio: float | None = None  # of attempts
    failures: Mapping[str, float] = field(default_factory=dict)  # ratio of attempts by outcome
    slow_ratio: float | None = None  # of attempts, slower than 1 s
    p50: Quantile | None = None
    p95: Quantile | None = None
    p99: Quantile | None = None
    budget_exhausted_per_s: float | None = None
    breaker_states: Mapping[str, int] = field(default_factory=dict)  # instances in each state
    breaker_rejected_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class TenantSignals:
    """One tenant of one service; small tenants share the name `other`."""

    rate_per_s: float | None = None
    limited_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceSignals:
    """One service, over all of its instances."""

    rate_per_s: float | None = None
    error_ratio: float | None = None
    p50: Quantile | None = None
    p95: Quantile | None = None
    p99: Quantile | None = None
    attempts_per_request: float | None = None  # outbound, all dependencies
    attempts_received_per_request: float | None = None  # as its callers count them
    shed_ratio: float | None = None  # refused by the service itself / requests
    rejected_per_s: Mapping[str, float] = field(default_factory=dict)  # by reason
    would_reject_per_s: Mapping[str, float] = field(default_factory=dict)  # by reason
    inflight: float | None = None
    queue_depth: float | None = None
    queue_wait_p95_s: float | None = None
    endpoints: Mapping[str, EndpointSignals] = field(default_factory=dict)
    dependencies: Mapping[str, DependencySignals] = field(default_factory=dict)
    tenants: Mapping[str, TenantSignals] = field(default_factory=dict)
    instances_ready: int | None = None
    instances_reporting: int | None = None
    config_sequence: int | None = None  # the lowest that any instance enforces
    rate_history: History = ()
    error_history: History = ()

    @property
    def has_data(self) -> bool:
        """Whether anything at all was measured."""
        return self != ServiceSignals()


@dataclass(frozen=True, slots=True)
class FleetPicture:
    """The fleet at `taken_at`, the time for which Prometheus was asked."""

    environment: str
    taken_at: float  # unix seconds: what the figures are true for
    collected_at: float  # unix seconds: when they were read
    interval_s: int
    window_s: int
    services: Mapping[str, ServiceSignals]
    queries: int = 0
    query_seconds: float = 0.0
    problems: tuple[str, ...] = ()
    history_end: float = 0.0  # unix seconds of the last point of every history
    history_step_s: int = 60


_NESTED: Mapping[tuple[type, str], type] = {
    (FleetPicture, "services"): ServiceSignals,
    (ServiceSignals, "endpoints"): EndpointSignals,
    (ServiceSignals, "dependencies"): DependencySignals,
    (ServiceSignals, "tenants"): TenantSignals,
}
_QUANTILES = frozenset({"p50", "p95", "p99"})
_TUPLES = frozenset({"rate_history", "error_history", "problems"})
# Rounding a time to six digits would move it by hours.
_EXACT = frozenset({"taken_at", "collected_at", "history_end"})


def picture_to_json(picture: FleetPicture) -> bytes:
    """Encode without what is missing, figures to six significant digits."""
    return orjson.dumps(_encode(picture))


def picture_from_json(data: bytes) -> FleetPicture:
    """Decode what `picture_to_json` wrote; unknown fields of a newer version are left out.

    Raises:
        ValueError: the bytes are not a picture.
    """
    document = orjson.loads(data)
    if not isinstance(document, dict):
        raise ValueError("a fleet picture is a JSON object")
    try:
        decoded = _decode(FleetPicture, document)
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError("not a fleet picture") from error
    if not isinstance(decoded, FleetPicture):
        raise ValueError("not a fleet picture")
    return decoded


def _encode(value: Any, name: str = "") -> Any:
    if isinstance(value, Quantile):
        return [_rounded(value.seconds), 1] if value.capped else _rounded(value.seconds)
    if dataclasses.is_dataclass(value):
        return {
            spec.name: _encode(held, spec.name)
            for spec in dataclasses.fields(value)
            if (held := getattr(value, spec.name)) is not None and held not in ({}, ())
        }
    if isinstance(value, Mapping):
        return {key: _encode(held) for key, held in value.items()}
    if isinstance(value, tuple):
        return [_encode(held) for held in value]
    if isinstance(value, float) and name not in _EXACT:
        return _rounded(value)
    return value


def _rounded(value: float) -> float:
    if value == 0 or not math.isfinite(value):
        return 0.0
    return round(value, _DIGITS - 1 - math.floor(math.log10(abs(value))))


def _decode(kind: type, document: Mapping[str, Any]) -> Any:
    known = {spec.name for spec in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name not in known:
            continue
        nested = _NESTED.get((kind, name))
        if nested is not None:
            values[name] = {key: _decode(nested, held) for key, held in value.items()}
        elif name in _QUANTILES:
            values[name] = _quantile(value)
        else:
            values[name] = tuple(value) if name in _TUPLES else value
    if kind is FleetPicture:
        values.setdefault("services", {})
    return kind(**values)


def _quantile(value: Any) -> Quantile:
    return Quantile(value[0], capped=True) if isinstance(value, list) else Quantile(value)

"""The figures over the Fleet table: of all services, whatever the filter or the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.policies.selectors import OverrideRow
from controlplane.policies.selectors.summary import PolicySummary
from controlplane.slo.selectors import SloStatus
from controlplane.telemetry.domain.health import IDLE_RATE_PER_S, Health, State
from controlplane.telemetry.domain.picture import FleetPicture, ServiceSignals
from controlplane.telemetry.domain.signals import BreakerState, worst_state
from dashboards.presenters import tones

UNKNOWN = (State.STALE, State.NO_DATA, State.IDLE)
BURNING = (State.BURNING, State.RETRY_STORM)
DEGRADED = (State.BREAKER_OPEN, State.SHEDDING, State.DEGRADED, State.RECOVERING)


@dataclass(frozen=True, slots=True)
class Sources:
    """What the rows are made of, each read once for the whole fleet."""

    picture: FleetPicture | None
    is_stale: bool
    statuses: Mapping[str, SloStatus]
    policies: Mapping[str, PolicySummary]
    overrides: Mapping[str, Sequence[OverrideRow]]
    convergence: Mapping[str, tuple[int, int]]
    now: datetime


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures over the table, of all services whatever the filter."""

    burning: int
    degraded: int
    healthy: int
    unknown: int
    rate_per_s: float | None
    breakers_open: int
    breakers: int
    attempts: float | None
    attempts_pair: str
    attempts_tone: str
    shed_ratio: float | None
    overrides: int
    next_end_s: float | None
    current: int
    live: int


def summarize(healths: Iterable[Health], sources: Sources) -> Summary:
    """Add the fleet up."""
    states = [health.worst.state for health in healths]
    signals = list(sources.picture.services.values()) if sources.picture else []
    breakers = _breakers(signals)
    ends = [
        (each.ends_at - sources.now).total_seconds()
        for overrides in sources.overrides.values()
        for each in overrides
    ]
    attempts, pair = _worst_pair(sources.picture)
    return Summary(
        burning=sum(state in BURNING for state in states),
        degraded=sum(state in DEGRADED for state in states),
        healthy=sum(state is State.HEALTHY for state in states),
        unknown=sum(state in UNKNOWN for state in states),
        rate_per_s=_total(each.rate_per_s for each in signals),
        breakers_open=sum(s in (BreakerState.OPEN, BreakerState.FORCED_OPEN) for s in breakers),
        breakers=len(breakers),
        attempts=attempts,
        attempts_pair=pair,
        attempts_tone=tones.attempts_tone(attempts),
        shed_ratio=_weighted_shed(signals),
        overrides=len(ends),
        next_end_s=min(ends, default=None),
        current=sum(current for current, _ in sources.convergence.values()),
        live=sum(live for _, live in sources.convergence.values()),
    )


def _breakers(signals: Sequence[ServiceSignals]) -> list[BreakerState]:
    states = (
        worst_state(dict(dependency.breaker_states))
        for each in signals
        for dependency in each.dependencies.values()
    )
    return [state for state in states if state is not None]


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _worst_pair(picture: FleetPicture | None) -> tuple[float | None, str]:
    """The most attempts per request between two services, and which: a mean hides a storm."""
    pairs = [
        (dependency.attempts_per_request, f"{service} → {name}")
        for service, signals in (picture.services.items() if picture else ())
        for name, dependency in signals.dependencies.items()
        if dependency.attempts_per_request is not None
        and (dependency.rate_per_s or 0) >= IDLE_RATE_PER_S
    ]
    return max(pairs, default=(None, ""))


def _weighted_shed(signals: Sequence[ServiceSignals]) -> float | None:
    known = [(s.shed_ratio, s.rate_per_s) for s in signals if s.shed_ratio is not None]
    requests = sum(rate or 0 for _, rate in known)
    return sum((ratio or 0) * (rate or 0) for ratio, rate in known) / requests if requests else None

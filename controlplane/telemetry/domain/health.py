"""What state a service is in, from its signals: one rule, its thresholds in one place.

Several conditions can hold at once; they are listed worst first, and the first one names the
service on pages. Missing figures hold no condition: they are neither good nor bad.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from controlplane.telemetry.domain.picture import ServiceSignals

BURNING_BURN_RATE = 6.0  # spends a 30-day budget in 5 days: SRE workbook, the 6 h page
DEGRADED_BURN_RATE = 1.0  # spends the budget before its window ends
DEGRADED_ERROR_RATIO = 0.01
DEGRADED_FAILURE_RATIO = 0.05  # of attempts at one dependency
STORM_ATTEMPTS = 1.5  # attempts per request; at most 1.1 under a 10% retry budget
STORM_FAILURE_RATIO = 0.01  # attempts grow without failures when calls are hedged, not retried
IDLE_RATE_PER_S = 0.005  # under one request in three minutes
REFUSING_RATIO = 0.05  # of requests, refused by the service itself
HOT_TENANT_SHARE = 0.5  # of what tenants are refused
HOT_REFUSED_SHARE = 0.01  # of the service's requests: fewer refusals single nobody out


class State(StrEnum):
    """The states of a service, worst first."""

    BURNING = "burning"
    RETRY_STORM = "retry_storm"
    BREAKER_OPEN = "breaker_open"
    SHEDDING = "shedding"
    DEGRADED = "degraded"
    RECOVERING = "recovering"
    STALE = "stale"
    NO_DATA = "no_data"
    IDLE = "idle"
    HEALTHY = "healthy"


RANK = {state: rank for rank, state in enumerate(State)}


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that holds: its state, and the figure that says how much or where."""

    state: State
    factor: float | None = None
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast the budgets of one service burn: those that do so now, and those that no more do.

    An hour and five minutes go by before a burn rate falls; errors stop at once. `ended_at` is
    when they did, as text, empty when unknown.
    """

    rate: float | None = None
    past_rate: float | None = None
    ended_at: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """Every condition that holds, worst first; never empty."""

    conditions: tuple[Condition, ...]

    @property
    def worst(self) -> Condition:
        """The condition that names the service."""
        return self.conditions[0]

    @property
    def rank(self) -> int:
        """0 for the worst state; services sort by it."""
        return RANK[self.worst.state]


def judge(
    signals: ServiceSignals | None,
    *,
    is_stale: bool,
    shed_level: int,
    burn: Burn,
) -> Health:
    """Return the health of one service.

    Args:
        signals: None when the fleet picture has nothing about the service.
        is_stale: the picture is too old to speak of now.
        shed_level: 0 to 3, of the effective policy.
        burn: of its fastest burning objectives.
    """
    found: list[Condition] = []
    if burn.rate is not None and burn.rate >= BURNING_BURN_RATE:
        found.append(Condition(State.BURNING, factor=burn.rate))
    if signals is not None:
        found += _retry_storm(signals)
        found += _open_breakers(signals)
    if shed_level > 0:
        found.append(Condition(State.SHEDDING, subject=f"L{shed_level}"))
    if signals is not None:
        found += _degraded(signals, burn.rate)
    if burn.past_rate is not None and burn.past_rate >= BURNING_BURN_RATE:
        found.append(Condition(State.RECOVERING, subject=burn.ended_at))
    if is_stale:
        found.append(Condition(State.STALE))
    elif signals is None or signals.rate_per_s is None:
        found.append(Condition(State.NO_DATA))
    elif signals.rate_per_s < IDLE_RATE_PER_S:
        found.append(Condition(State.IDLE))
    return Health(tuple(found) or (Condition(State.HEALTHY),))


def _retry_storm(signals: ServiceSignals) -> list[Condition]:
    """The dependency that takes the most attempts per request, when its attempts fail."""
    storms = [
        Condition(State.RETRY_STORM, factor=dependency.attempts_per_request, subject=name)
        for name, dependency in signals.dependencies.items()
        if (dependency.attempts_per_request or 0) >= STORM_ATTEMPTS
        and (dependency.failure_ratio or 0) >= STORM_FAILURE_RATIO
    ]
    if storms:
        return [max(storms, key=lambda storm: storm.factor or 0)]
    received = signals.attempts_received_per_request
    if received is not None and received >= STORM_ATTEMPTS:
        return [Condition(State.RETRY_STORM, factor=received)]
    return []


def _open_breakers(signals: ServiceSignals) -> list[Condition]:
    names = [
        name
        for name, dependency in signals.dependencies.items()
        if (dependency.breaker_states or {}).get("open", 0) > 0
        or (dependency.breaker_states or {}).get("forced_open", 0) > 0
    ]
    return [Condition(State.BREAKER_OPEN, subject=", ".join(names))] if names else []


def _degraded(signals: ServiceSignals, burn_rate: float | None) -> list[Condition]:
    failing = [
        name
        for name, dependency in signals.dependencies.items()
        if (dependency.failure_ratio or 0) >= DEGRADED_FAILURE_RATIO
    ]
    if (signals.error_ratio or 0) >= DEGRADED_ERROR_RATIO:
        return [Condition(State.DEGRADED, subject="errors")]
    tenant = hot_tenant(signals)
    if tenant is not None:
        return [Condition(State.DEGRADED, subject=f"hot tenant {tenant}")]
    if (signals.shed_ratio or 0) >= REFUSING_RATIO:
        return [Condition(State.DEGRADED, subject="refusing")]
    if failing:
        return [Condition(State.DEGRADED, subject=", ".join(failing))]
    if burn_rate is not None and DEGRADED_BURN_RATE <= burn_rate < BURNING_BURN_RATE:
        return [Condition(State.DEGRADED, factor=burn_rate, subject="burning")]
    if signals.p99 is not None and signals.p99.capped:
        return [Condition(State.DEGRADED, subject="p99")]
    return []


def hot_tenant(signals: ServiceSignals) -> str | None:
    """The tenant that has most of what is refused, when that is enough to single anybody out.

    A large tenant within its limit is nobody's trouble, however large its share of requests is.
    """
    refused_per_s = {
        name: (seen.rate_per_s or 0.0) * (seen.limited_ratio or 0.0)
        for name, seen in signals.tenants.items()
    }
    total_per_s = sum(refused_per_s.values())
    if not signals.rate_per_s or total_per_s < HOT_REFUSED_SHARE * signals.rate_per_s:
        return None
    name = max(refused_per_s, key=lambda each: refused_per_s[each])
    is_most = refused_per_s[name] >= HOT_TENANT_SHARE * total_per_s
    return name if is_most and name != "other" else None

"""States of services and breakers as word, shape and tone: never colour alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.telemetry.domain.health import Condition, Health, State
from controlplane.telemetry.domain.signals import BreakerState, worst_state
from dashboards.templatetags.figures import factor as burn_factor
from dashboards.templatetags.figures import times

_LOOK: Mapping[State, tuple[str, str, str]] = {
    State.BURNING: ("crit", "▲", "burning"),
    State.RETRY_STORM: ("crit", "▲", "retry storm"),
    State.BREAKER_OPEN: ("warn", "◆", "breaker open"),
    State.SHEDDING: ("shed", "▽", "shedding"),
    State.DEGRADED: ("warn", "◆", "degraded"),
    State.RECOVERING: ("warn", "◆", "recovering"),
    State.STALE: ("quiet", "◌", "stale"),
    State.NO_DATA: ("quiet", "◌", "no data"),
    State.IDLE: ("quiet", "○", "idle"),
    State.HEALTHY: ("ok", "●", "healthy"),
}
_BREAKER: Mapping[BreakerState, tuple[str, str, str]] = {
    BreakerState.CLOSED: ("ok", "closed", "●"),
    BreakerState.DISABLED: ("quiet", "disabled", "○"),
    BreakerState.HALF_OPEN: ("warn", "half-open", "◆"),
    BreakerState.OPEN: ("crit", "open", "▲"),
    BreakerState.FORCED_OPEN: ("crit", "forced open", "▲"),
}


@dataclass(frozen=True, slots=True)
class StatePill:
    """A state as it is drawn."""

    tone: str
    shape: str
    text: str


@dataclass(frozen=True, slots=True)
class BreakerMark:
    """One breaker over all instances: the worst state any of them is in."""

    dependency: str
    state: str
    pill: StatePill
    instances: str

    @property
    def is_open(self) -> bool:
        """Whether some instance refuses calls now."""
        return self.state in (BreakerState.OPEN, BreakerState.FORCED_OPEN)


def state_pill(condition: Condition) -> StatePill:
    """Draw one condition: "▲ burning 14.2×", "◆ breaker open: payments"."""
    tone, shape, word = _LOOK[condition.state]
    said = burn_factor if condition.state in (State.BURNING, State.DEGRADED) else times
    factor = "" if condition.factor is None else f" {said(condition.factor)}"
    text = {
        State.BREAKER_OPEN: f"{word}: {condition.subject}",
        State.SHEDDING: f"{word} {condition.subject}",
        State.DEGRADED: f"{word}: {condition.subject}" if condition.subject else word,
        State.RECOVERING: f"{word}, errors stopped {condition.subject}".rstrip(),
        State.RETRY_STORM: f"{word} → {condition.subject}" if condition.subject else word,
    }.get(condition.state, word)
    return StatePill(tone=tone, shape=shape, text=text + factor)


def other_pills(health: Health) -> tuple[StatePill, ...]:
    """Every condition but the worst.

    Degraded is left out, since what is worse says it already, and stale, since the page does.
    """
    return tuple(
        state_pill(condition)
        for condition in health.conditions[1:]
        if condition.state not in (State.DEGRADED, State.STALE)
    )


def breaker_mark(dependency: str, states: Mapping[str, int]) -> BreakerMark | None:
    """Draw one breaker; None when no instance reports it."""
    worst = worst_state(dict(states))
    if worst is None:
        return None
    tone, word, shape = _BREAKER[worst]
    total = sum(states.values())
    share = f" on {states[worst]} of {total}" if worst is not BreakerState.CLOSED else ""
    return BreakerMark(
        dependency=dependency,
        state=worst.value,
        pill=StatePill(tone=tone, shape=shape, text=word + share),
        instances=", ".join(
            f"{count} {_BREAKER[BreakerState(state)][1]}"
            for state, count in states.items()
            if count
        ),
    )

"""Which budgets burn now, and which burnt until a moment ago."""

from __future__ import annotations

from datetime import UTC, datetime

from controlplane.slo.selectors import ObjectiveStatus, SloStatus
from controlplane.telemetry.domain.health import Burn
from controlplane.telemetry.domain.picture import FleetPicture, ServiceSignals


def burn_of(status: SloStatus | None, picture: FleetPicture | None, service: str) -> Burn:
    """Tell the burn of a service that goes on from the one that is over.

    An availability objective's is over when the present error ratio would no longer spend its
    budget before the window ends. What is slow now is not known by request, so a latency
    objective's goes on until its own windows say otherwise.
    """
    if status is None:
        return Burn()
    signals = None if picture is None else picture.services.get(service)
    over = [each for each in status.objectives if _is_over(each, signals)]
    going = [each for each in status.objectives if each not in over]
    past_rate = _highest(over)
    return Burn(
        rate=_highest(going),
        past_rate=past_rate,
        ended_at="" if past_rate is None else _ended_at(over, picture, signals),
    )


def _is_over(objective: ObjectiveStatus, signals: ServiceSignals | None) -> bool:
    if objective.kind != "availability" or signals is None or signals.error_ratio is None:
        return False
    return signals.error_ratio < 1.0 - objective.target


def _highest(objectives: list[ObjectiveStatus]) -> float | None:
    rates = [each.confirmed_burn for each in objectives if each.confirmed_burn is not None]
    return max(rates, default=None)


def _ended_at(
    over: list[ObjectiveStatus], picture: FleetPicture | None, signals: ServiceSignals | None
) -> str:
    """The clock time of the first point after the last with too many errors; empty if unknown."""
    if picture is None or signals is None or not picture.history_end:
        return ""
    budget = 1.0 - min(each.target for each in over)
    history = signals.error_history
    for back, ratio in enumerate(reversed(history)):
        if ratio is not None and ratio >= budget:
            ended_s = picture.history_end - max(0, back - 1) * picture.history_step_s
            return datetime.fromtimestamp(ended_s, UTC).strftime("%H:%M")
    return ""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.telemetry.domain.health import RANK, Burn, State, judge
from controlplane.telemetry.domain.picture import DependencySignals, ServiceSignals, TenantSignals
from controlplane.telemetry.domain.quantiles import Quantile


def signals(**changes: Any) -> ServiceSignals:
    return ServiceSignals(**({"rate_per_s": 12.0, "error_ratio": 0.0} | changes))


def calling(**changes: Any) -> ServiceSignals:
    return signals(dependencies={"payments": DependencySignals(**changes)})


def states(
    found: ServiceSignals | None,
    *,
    is_stale: bool = False,
    shed_level: int = 0,
    burn_rate: float | None = None,
    past_rate: float | None = None,
) -> list[State]:
    burn = Burn(burn_rate, past_rate)
    health = judge(found, is_stale=is_stale, shed_level=shed_level, burn=burn)
    return [condition.state for condition in health.conditions]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (signals(), [State.HEALTHY]),
        (None, [State.NO_DATA]),
        (ServiceSignals(), [State.NO_DATA]),
        (signals(rate_per_s=0.0, error_ratio=None), [State.IDLE]),
        (signals(error_ratio=0.01), [State.DEGRADED]),
        (signals(error_ratio=0.0099), [State.HEALTHY]),
        (signals(p99=Quantile(10.0, capped=True)), [State.DEGRADED]),
        (calling(attempts_per_request=1.5, failure_ratio=0.01), [State.RETRY_STORM]),
        (calling(attempts_per_request=1.49, failure_ratio=0.01), [State.HEALTHY]),
        (calling(attempts_per_request=2.0, failure_ratio=0.0), [State.HEALTHY]),
        (calling(failure_ratio=0.05), [State.DEGRADED]),
        (calling(breaker_states={"open": 1, "closed": 2}), [State.BREAKER_OPEN]),
        (calling(breaker_states={"forced_open": 3}), [State.BREAKER_OPEN]),
        (calling(breaker_states={"half_open": 3}), [State.HEALTHY]),
        (signals(attempts_received_per_request=1.5), [State.RETRY_STORM]),
    ],
)
def test_a_service_is_in_the_state_its_signals_say(
    found: ServiceSignals | None, expected: list[State]
) -> None:
    assert states(found) == expected


@pytest.mark.parametrize(
    ("burn_rate", "expected"),
    [(None, State.HEALTHY), (0.99, State.HEALTHY), (1.0, State.DEGRADED), (6.0, State.BURNING)],
)
def test_a_budget_burns_from_six_times_the_sustainable_rate(
    burn_rate: float | None, expected: State
) -> None:
    assert states(signals(), burn_rate=burn_rate) == [expected]


def test_a_burn_that_is_over_is_a_recovery_below_everything_that_goes_wrong_now() -> None:
    assert states(signals(), past_rate=193.0) == [State.RECOVERING]
    assert states(signals(), past_rate=5.9) == [State.HEALTHY]
    assert states(signals(error_ratio=0.02), past_rate=193.0) == [State.DEGRADED, State.RECOVERING]
    assert states(signals(), burn_rate=7.0, past_rate=193.0) == [State.BURNING, State.RECOVERING]


@pytest.mark.parametrize(
    ("found", "subject"),
    [
        (signals(shed_ratio=0.5), "refusing"),
        (signals(shed_ratio=0.049), None),
        (signals(shed_ratio=0.5, error_ratio=0.5), "errors"),
        (signals(tenants={"acme": TenantSignals(6.0, 0.1)}), "hot tenant acme"),
        (signals(tenants={"acme": TenantSignals(6.0, 0.0)}), None),
        (signals(tenants={"other": TenantSignals(6.0, 0.1)}), None),
    ],
)
def test_a_front_door_that_refuses_much_is_degraded_and_says_why(
    found: ServiceSignals, subject: str | None
) -> None:
    worst = judge(found, is_stale=False, shed_level=0, burn=Burn()).worst

    assert (worst.subject or None) == subject
    assert worst.state is (State.HEALTHY if subject is None else State.DEGRADED)


def test_every_condition_is_listed_worst_first() -> None:
    found = signals(
        error_ratio=0.2,
        dependencies={
            "payments": DependencySignals(
                attempts_per_request=2.3, failure_ratio=0.7, breaker_states={"open": 1}
            )
        },
    )

    listed = states(found, shed_level=1, burn_rate=14.2)

    assert listed == [
        State.BURNING, State.RETRY_STORM, State.BREAKER_OPEN, State.SHEDDING, State.DEGRADED,
    ]  # fmt: skip
    assert [RANK[state] for state in listed] == sorted(RANK[state] for state in listed)


def test_a_stale_picture_keeps_what_it_showed_and_says_so() -> None:
    assert states(signals(error_ratio=0.2), is_stale=True) == [State.DEGRADED, State.STALE]
    assert states(None, is_stale=True) == [State.STALE]


def test_the_worst_of_several_storms_is_named() -> None:
    found = signals(
        dependencies={
            "fraud": DependencySignals(attempts_per_request=1.6, failure_ratio=0.2),
            "payments": DependencySignals(attempts_per_request=2.3, failure_ratio=0.2),
        }
    )

    worst = judge(found, is_stale=False, shed_level=0, burn=Burn()).worst

    assert (worst.subject, worst.factor) == ("payments", 2.3)

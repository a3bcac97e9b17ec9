from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.inbound import FakeClock
from tidegate.budget import RetryBudget
from tidegate.outbound_policy import BudgetPolicy


def spend_all(budget: RetryBudget, tries: int = 1000) -> int:
    spent = 0
    while spent < tries and budget.spend():
        spent += 1
    assert spent == tries or not budget.spend()
    return spent


def test_retries_are_a_share_of_the_requests_in_the_window() -> None:
    budget = RetryBudget(BudgetPolicy(ratio=0.1, min_per_s=0, window_s=10), FakeClock())
    for _ in range(200):
        budget.record_request()

    assert spend_all(budget) == 20
    assert budget.remaining() == 0


def test_the_floor_lets_a_quiet_service_retry_at_all() -> None:
    budget = RetryBudget(BudgetPolicy(ratio=0.1, min_per_s=1, window_s=10), FakeClock())
    budget.record_request()

    assert spend_all(budget) == 10


def test_the_floor_is_not_added_to_the_share() -> None:
    budget = RetryBudget(BudgetPolicy(ratio=0.1, min_per_s=1, window_s=10), FakeClock())
    for _ in range(500):
        budget.record_request()

    assert spend_all(budget) == 50


def test_the_window_gives_back_what_it_forgets() -> None:
    clock = FakeClock()
    budget = RetryBudget(BudgetPolicy(ratio=0, min_per_s=1, window_s=10), clock)
    assert spend_all(budget) == 10

    clock.advance(10.6)

    assert spend_all(budget) == 10


def test_retuning_keeps_what_was_spent() -> None:
    clock = FakeClock()
    budget = RetryBudget(BudgetPolicy(ratio=1, min_per_s=0, window_s=10), clock)
    for _ in range(100):
        budget.record_request()
    assert spend_all(budget, 30) == 30

    budget.retune(BudgetPolicy(ratio=0.1, min_per_s=0, window_s=60))
    assert budget.remaining() == -20
    assert not budget.spend()

    for _ in range(300):
        budget.record_request()
    assert spend_all(budget) == 10


budgets = st.builds(
    BudgetPolicy, ratio=st.floats(0, 1), min_per_s=st.floats(0, 5), window_s=st.floats(1, 60)
)
# Each step: time passes, requests come, and every one of them wants so many retries.
traffic = st.lists(
    st.tuples(st.floats(0, 30), st.integers(0, 40), st.integers(0, 4)), min_size=1, max_size=60
)


@given(budgets, traffic)
def test_over_any_traffic_retries_stay_within_share_plus_floor(
    policy: BudgetPolicy, steps: list[tuple[float, int, int]]
) -> None:
    clock = FakeClock()
    started_s = clock()
    budget = RetryBudget(policy, clock)
    requests = retries = 0
    for pause_s, arriving, wanted in steps:
        clock.advance(pause_s)
        for _ in range(arriving):
            budget.record_request()
            requests += 1
            retries += sum(budget.spend() for _ in range(wanted))
        elapsed_s = clock() - started_s
        floor = policy.min_per_s * (elapsed_s + policy.window_s * 1.1)
        assert retries <= policy.ratio * requests + floor + 1e-6


@given(budgets, st.lists(budgets, max_size=5), traffic)
def test_retuning_never_creates_retries_out_of_nothing(
    first: BudgetPolicy, later: list[BudgetPolicy], steps: list[tuple[float, int, int]]
) -> None:
    clock = FakeClock()
    budget = RetryBudget(first, clock)
    for _, arriving, _ in steps:
        for _ in range(arriving):
            budget.record_request()
    spend_all(budget, 10_000)
    before = budget.remaining()

    for policy in later:
        budget.retune(policy)
    budget.retune(first)

    assert budget.remaining() <= max(before, first.min_per_s * first.window_s) + 1e-6


def test_a_budget_at_rest_allows_only_its_floor() -> None:
    budget = RetryBudget(BudgetPolicy(ratio=0.5, min_per_s=0.3, window_s=10), FakeClock())

    assert budget.remaining() == pytest.approx(3)

"""How a publication spreads, and who is behind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.delivery.domain.cohorts import position
from controlplane.delivery.domain.convergence import nearest_rank
from controlplane.delivery.selectors import (
    convergence,
    convergence_many,
    fleet_convergence,
    list_instances,
)
from controlplane.kernel.errors import NotFound
from tests.delivery.builders import NOW
from tests.delivery.rows import acknowledge, instance, publication_row


def test_convergence_counts_live_instances_and_times_their_answers(db: None) -> None:
    publication_row(7)
    for number in range(1, 101):
        instance(f"checkout-{number:03}", sequence=7)
        acknowledge(f"checkout-{number:03}", 7, after_s=number / 100)

    spread = convergence("prod", "checkout", 7, now=NOW)

    assert (spread.live, spread.applied, spread.silent, spread.rejected) == (100, 100, (), ())
    assert (spread.first_s, spread.p50_s, spread.p95_s) == (0.01, 0.5, 0.95)
    assert (spread.p99_s, spread.last_s, spread.is_complete) == (0.99, 1.0, True)


def test_instances_that_have_not_answered_or_refused_are_named(db: None) -> None:
    publication_row(7)
    instance("checkout-1", sequence=7)
    instance("checkout-2", sequence=6)
    instance("checkout-3", sequence=6, state="rejected", reason="bad field")
    acknowledge("checkout-1", 7, after_s=0.2)
    acknowledge("checkout-3", 7, after_s=0.3, outcome="rejected", reason="bad field")

    spread = convergence("prod", "checkout", 7, now=NOW)

    assert (spread.live, spread.applied, spread.silent) == (3, 1, ("checkout-2",))
    assert [(each.instance_id, each.reason) for each in spread.rejected] == [
        ("checkout-3", "bad field")
    ]
    assert spread.is_complete is False


def test_an_instance_on_a_later_publication_has_passed_this_one(db: None) -> None:
    publication_row(7)
    instance("checkout-1", sequence=9)

    assert convergence("prod", "checkout", 7, now=NOW).is_complete is True


def test_an_instance_that_started_later_leaves_the_times_alone(db: None) -> None:
    publication_row(7)
    instance("checkout-1", sequence=7)
    instance("checkout-2", sequence=7, first_seen_at=NOW + timedelta(hours=1))
    acknowledge("checkout-1", 7, after_s=0.2)
    acknowledge("checkout-2", 7, after_s=3600)

    spread = convergence("prod", "checkout", 7, now=NOW)

    assert (spread.applied, spread.last_s) == (2, 0.2)


def test_instances_that_are_gone_do_not_hold_convergence_up(db: None) -> None:
    publication_row(7)
    instance("checkout-1", sequence=7)
    instance("checkout-2", sequence=6, seen_at=NOW - timedelta(seconds=36))

    assert convergence("prod", "checkout", 7, now=NOW).is_complete is True


def test_without_a_live_instance_nothing_is_complete_and_no_time_is_known(db: None) -> None:
    publication_row(7)

    spread = convergence("prod", "checkout", 7, now=NOW)

    assert (spread.live, spread.is_complete) == (0, False)
    assert (spread.first_s, spread.p50_s, spread.last_s) == (None, None, None)


@pytest.mark.parametrize(
    ("environment", "service", "sequence"),
    [("prod", "checkout", 8), ("staging", "checkout", 7), ("prod", "payments", 7)],
)
def test_an_unknown_publication_is_not_found(
    db: None, environment: str, service: str, sequence: int
) -> None:
    publication_row(7)

    with pytest.raises(NotFound, match=f"{service} has no publication {sequence}"):
        convergence(environment, service, sequence, now=NOW)


def test_many_publications_cost_four_queries(db: None, django_assert_num_queries: Any) -> None:
    for sequence in range(1, 21):
        publication_row(sequence, service="checkout" if sequence % 2 else "payments")
    for number in range(5):
        instance(f"checkout-{number}", sequence=19)
        acknowledge(f"checkout-{number}", 19, after_s=0.5)

    with django_assert_num_queries(4):
        spreads = convergence_many("prod", [*range(1, 21), 999], now=NOW)

    assert set(spreads) == set(range(1, 21))
    assert (spreads[19].applied, spreads[19].p95_s) == (5, 0.5)
    assert spreads[20].live == 0


def test_the_fleet_counts_current_and_live_instances_in_two_queries(
    db: None, django_assert_num_queries: Any
) -> None:
    publication_row(3)
    publication_row(7)
    publication_row(4, service="")
    instance("checkout-1", sequence=7)
    instance("checkout-2", sequence=3)
    instance("checkout-3", sequence=7, seen_at=NOW - timedelta(seconds=60))
    instance("newcomer-1", sequence=4, service="newcomer")
    instance("newcomer-2", sequence=None, service="newcomer")

    with django_assert_num_queries(2):
        counts = fleet_convergence("prod", now=NOW)

    assert counts == {"checkout": (1, 2), "newcomer": (1, 2)}
    assert fleet_convergence("staging", now=NOW) == {}


def test_the_fleet_counts_a_canary_s_instances_by_the_canary(
    db: None, django_assert_num_queries: Any
) -> None:
    names = [f"checkout-{number:02}" for number in range(20)]
    first = {name for name in names if position("salt", name) < 0.25}
    publication_row(8)
    publication_row(9, canary_ratio=0.25)
    publication_row(3, service="payments")
    for name in names:
        instance(name, sequence=9 if name in first else 8)
    instance("late", sequence=7)
    instance("payments-1", sequence=3, service="payments")

    with django_assert_num_queries(3):
        counts = fleet_convergence("prod", now=NOW)

    assert counts == {"checkout": (20, 21), "payments": (1, 1)}


def test_instances_are_listed_with_what_they_enforce(
    db: None, django_assert_num_queries: Any
) -> None:
    publication_row(7)
    instance("checkout-1", sequence=7)
    instance("checkout-2", sequence=6, state="rejected", reason="bad", rejected_etag="7-0-9f3c")
    instance("payments-1", sequence=1, service="payments", seen_at=NOW - timedelta(minutes=5))

    with django_assert_num_queries(2):
        rows = list_instances("prod", now=NOW)

    assert [(row.service, row.instance_id, row.is_live, row.is_current) for row in rows] == [
        ("checkout", "checkout-1", True, True),
        ("checkout", "checkout-2", True, False),
        ("payments", "payments-1", False, False),
    ]
    assert (rows[1].state, rows[1].reason, rows[1].etag) == ("rejected", "bad", "6-0-9f3c")
    assert [row.instance_id for row in list_instances("prod", "payments", now=NOW)] == [
        "payments-1"
    ]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50).map(sorted), st.floats(0.01, 1))
def test_a_quantile_is_a_value_that_enough_of_them_do_not_exceed(
    values: list[float], ratio: float
) -> None:
    quantile = nearest_rank(values, ratio)

    assert quantile in values
    assert sum(value <= quantile for value in values) >= ratio * len(values) - 1e-9

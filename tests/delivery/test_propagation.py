"""From published over fetched to applied: per instance, and as quantiles."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.delivery.domain.cohorts import position
from controlplane.delivery.domain.convergence import Phase
from controlplane.delivery.domain.progress import Progress
from controlplane.delivery.selectors import (
    SETTLED,
    convergence,
    follow_publication,
    list_recent_publications,
    propagation,
)
from controlplane.kernel.errors import NotFound
from tests.delivery.builders import NOW
from tests.delivery.rows import acknowledge, instance, publication_row


def spread_of_100() -> None:
    publication_row(7)
    for number in range(1, 101):
        name = f"checkout-{number:03}"
        instance(name, sequence=7)
        acknowledge(name, 7, after_s=number / 1000, outcome="fetched")
        acknowledge(name, 7, after_s=number / 100)


def test_both_legs_of_the_way_have_quantiles(db: None) -> None:
    spread_of_100()

    found = convergence("prod", "checkout", 7, now=NOW)

    assert (found.fetch.count, found.fetch.p50_s, found.fetch.p99_s) == (100, 0.05, 0.099)
    assert (found.apply.p50_s, found.apply.p99_s, found.apply.last_s) == (0.5, 0.99, 1.0)
    assert (found.fetched, found.applied) == (100, 100)


def test_laggards_are_named_who_is_waited_for_first_and_then_the_slowest(db: None) -> None:
    spread_of_100()
    instance("checkout-101", sequence=6)

    found = convergence("prod", "checkout", 7, now=NOW + timedelta(seconds=30))

    assert [(each.instance_id, each.late_s, each.has_applied) for each in found.laggards[:3]] == [
        ("checkout-101", 30, False),
        ("checkout-100", 1.0, True),
        ("checkout-099", 0.99, True),
    ]
    assert len(found.laggards) == 5


def test_an_instance_that_was_sent_it_and_has_not_answered_counts_as_fetched(db: None) -> None:
    publication_row(7)
    instance("checkout-1", sequence=6)
    instance("checkout-2", sequence=6)
    acknowledge("checkout-1", 7, after_s=0.1, outcome="fetched")

    found = convergence("prod", "checkout", 7, now=NOW)

    assert (found.live, found.fetched, found.applied) == (2, 1, 0)
    assert found.silent == ("checkout-1", "checkout-2")


@pytest.mark.parametrize(
    ("applied", "rejected", "waiting", "after_s", "phase"),
    [
        (3, 0, 0, 1, Phase.CONVERGED),
        (2, 0, 1, 1, Phase.CONVERGING),
        (1, 1, 1, 1, Phase.CONVERGING),
        (2, 1, 0, 1, Phase.REJECTED),
        (1, 1, 1, 121, Phase.REJECTED),
        (2, 0, 1, 121, Phase.UNANSWERED),
        (0, 0, 0, 1, Phase.CONVERGING),
        (0, 0, 0, 121, Phase.NOBODY),
    ],
)
def test_where_a_publication_is_on_its_way(
    db: None, applied: int, rejected: int, waiting: int, after_s: float, phase: Phase
) -> None:
    publication_row(7)
    later = NOW + timedelta(seconds=after_s)
    for number in range(applied):
        instance(f"a-{number}", sequence=7, seen_at=later)
    for number in range(rejected):
        instance(f"r-{number}", sequence=6, seen_at=later, rejected_etag="7-0-9f3c")
    for number in range(waiting):
        instance(f"w-{number}", sequence=6, seen_at=later)

    assert convergence("prod", "checkout", 7, now=later).phase(later) is phase


def test_every_instance_of_a_publication_says_how_far_it_is(
    db: None, django_assert_num_queries: Any
) -> None:
    publication_row(7)
    publication_row(9)
    now = NOW + timedelta(seconds=60)
    instance("applied", sequence=7, seen_at=now)
    instance("passed", sequence=9, seen_at=now)
    instance("rejected", sequence=6, seen_at=now)
    instance("fetched", sequence=6, seen_at=now)
    instance("waiting", sequence=6, seen_at=now)
    instance("silent", sequence=6, seen_at=NOW)
    instance("joined", sequence=9, seen_at=now, first_seen_at=NOW + timedelta(seconds=9))
    instance("gone-before", sequence=6, seen_at=NOW - timedelta(hours=2))
    acknowledge("applied", 7, after_s=0.1, outcome="fetched")
    acknowledge("applied", 7, after_s=0.4)
    acknowledge("rejected", 7, after_s=0.1, outcome="fetched")
    acknowledge("rejected", 7, after_s=0.2, outcome="rejected", reason="no such field")
    acknowledge("fetched", 7, after_s=0.1, outcome="fetched")
    acknowledge("forgotten", 7, after_s=0.3)

    with django_assert_num_queries(4):
        found = follow_publication("prod", 7, now=now)

    assert [(row.instance_id, row.progress) for row in found.instances] == [
        ("rejected", Progress.REJECTED),
        ("silent", Progress.SILENT),
        ("fetched", Progress.FETCHED),
        ("waiting", Progress.WAITING),
        ("applied", Progress.APPLIED),
        ("forgotten", Progress.APPLIED),
        ("passed", Progress.PASSED),
        ("joined", Progress.JOINED_LATER),
    ]
    by_name = {row.instance_id: row for row in found.instances}
    assert (by_name["applied"].fetch_s, by_name["applied"].apply_s) == (0.1, 0.4)
    assert (by_name["rejected"].reject_s, by_name["rejected"].reason) == (0.2, "no such field")
    assert by_name["forgotten"].last_seen_at is None
    assert (found.row.superseded_by, found.row.convergence.live) == (9, 6)


@pytest.mark.parametrize(
    ("environment", "sequence", "message"),
    [
        ("prod", 99, "prod has no publication 99"),
        ("staging", 7, "staging has no publication 7"),
        ("prod", 3, "publication 3 is the fleet default of prod; each service"),
    ],
)
def test_what_cannot_be_followed_is_not_found_and_says_why(
    db: None, environment: str, sequence: int, message: str
) -> None:
    publication_row(3, service="")
    publication_row(7)

    with pytest.raises(NotFound, match=message):
        follow_publication(environment, sequence, now=NOW)


def test_recent_publications_cost_four_queries_and_page_back(
    db: None, django_assert_num_queries: Any
) -> None:
    publication_row(3, service="")
    for sequence in range(4, 24):
        publication_row(sequence, service="checkout" if sequence % 2 else "payments")
    instance("checkout-1", sequence=23)
    acknowledge("checkout-1", 23, after_s=0.5)

    with django_assert_num_queries(4):
        first = list_recent_publications("prod", limit=8, now=NOW)
    rest = list_recent_publications("prod", before_sequence=first[-1].sequence, limit=99, now=NOW)

    assert [row.sequence for row in first] == list(range(23, 15, -1))
    assert [row.sequence for row in rest] == list(range(15, 3, -1))
    assert (first[0].superseded_by, first[2].superseded_by) == (None, 23)
    assert (first[0].convergence.applied, first[0].convergence.p99_s) == (1, 0.5)
    only = list_recent_publications("prod", service="payments", limit=3, now=NOW)
    assert {row.service for row in only} == {"payments"}


def test_each_cohort_is_measured_over_its_own_instances(db: None) -> None:
    names = [f"checkout-{number:02}" for number in range(20)]
    first = {name for name in names if position("salt", name) < 0.25}
    publication_row(8)
    publication_row(9, canary_ratio=0.25)
    publication_row(11, service="payments", canary_ratio=0.0)
    for name in names:
        instance(name, sequence=9 if name in first else 8)

    canary, stable = list_recent_publications("prod", limit=9, now=NOW)

    assert (canary.sequence, canary.cohort) == (9, "canary")
    assert (canary.convergence.live, canary.convergence.applied) == (len(first), len(first))
    assert (stable.convergence.live, stable.superseded_by) == (len(names) - len(first), None)
    assert len(follow_publication("prod", 9, now=NOW).instances) == len(first)


def test_who_started_later_leaves_the_times_alone_even_when_it_has_stopped_again(db: None) -> None:
    publication_row(7)
    instance("checkout-1", sequence=7)
    acknowledge("checkout-1", 7, after_s=0.2)
    later = NOW + timedelta(hours=1)
    instance("short-lived", sequence=7, first_seen_at=later, seen_at=later)
    acknowledge("short-lived", 7, after_s=3600)

    found = convergence("prod", "checkout", 7, now=later + timedelta(minutes=2))

    assert (found.apply.count, found.last_s) == (1, 0.2)


def test_what_has_settled_is_measured_again_only_after_a_while(
    db: None, django_assert_num_queries: Any
) -> None:
    publication_row(7, issued_at=NOW - timedelta(minutes=5))
    publication_row(8, issued_at=NOW - timedelta(minutes=1))
    instance("checkout-1", sequence=8)

    def recent(after_s: float) -> list[int]:
        found = list_recent_publications("prod", limit=9, now=NOW + timedelta(seconds=after_s))
        return [row.convergence.applied for row in found]

    assert recent(0) == [1, 1]
    instance("checkout-2", sequence=8)
    assert recent(14) == [2, 1]  # 7 has settled, 8 is followed
    with django_assert_num_queries(4):
        assert recent(16) == [2, 2]
    recent(130)
    with django_assert_num_queries(2):
        recent(140)  # both have settled: what is listed is read, and nothing more


def test_what_has_settled_is_remembered_within_a_bound(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propagation, "MAX_SETTLED", 3)
    for sequence in range(1, 8):
        publication_row(sequence, issued_at=NOW - timedelta(minutes=5))

    rows = list_recent_publications("prod", limit=9, now=NOW)

    assert len(rows) == 7
    assert len(SETTLED._kept) == 3

"""Who enforces something else than it should is named, with how late; who is on its way is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from controlplane.delivery.domain.cohorts import position
from controlplane.delivery.domain.drift import (
    MAX_REASONS,
    OTHER_REASONS,
    DriftKind,
    Enforcing,
    find_drift,
    group_rejections,
    judge_service,
)
from controlplane.delivery.domain.served import Lineup, Served, lineup_of
from controlplane.delivery.domain.snapshot import CANARY
from controlplane.delivery.selectors import fleet_drift, list_rejections
from tests.delivery.builders import NOW
from tests.delivery.rows import instance, publication_row, scheduled_entry

EXPECTED = Served(sequence=8, issued_at=NOW - timedelta(minutes=5))


def enforcing(**changes: Any) -> Enforcing:
    healthy = Enforcing(
        service="checkout", instance_id="checkout-1", etag="8-0-9f3c", sequence=8, step=0,
        is_rejecting=False, rejected_sequence=None, rejected_at=None, reason="",
        first_seen_at=NOW - timedelta(hours=1), last_seen_at=NOW,
    )  # fmt: skip
    return replace(healthy, **changes)


def refusing(**changes: Any) -> Enforcing:
    given = {"sequence": 7, "is_rejecting": True, "rejected_sequence": 8, "reason": "no"}
    return enforcing(**(given | changes))


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


@pytest.mark.parametrize(
    ("seen", "kind", "late_s"),
    [
        pytest.param(enforcing(), None, None, id="enforces it"),
        pytest.param(enforcing(sequence=7), DriftKind.BEHIND, 300, id="older"),
        pytest.param(enforcing(sequence=9), DriftKind.AHEAD, 300, id="newer"),
        pytest.param(enforcing(sequence=None, etag="odd"), DriftKind.UNKNOWN, 300, id="foreign"),
        pytest.param(
            enforcing(sequence=None, etag=""), DriftKind.UNCONFIRMED, 300, id="never says"
        ),
        pytest.param(refusing(rejected_at=ago(seconds=9)), DriftKind.REJECTED, 9, id="refuses"),
        pytest.param(refusing(rejected_sequence=None), DriftKind.REJECTED, 300, id="refuses odd"),
        pytest.param(refusing(rejected_sequence=6), DriftKind.BEHIND, 300, id="refused older"),
        pytest.param(refusing(sequence=8, rejected_sequence=7), None, None, id="refused, passed"),
        pytest.param(
            enforcing(last_seen_at=ago(seconds=36)), DriftKind.SILENT, 36, id="fell silent"
        ),
        pytest.param(enforcing(last_seen_at=ago(minutes=15)), None, None, id="is gone"),
        pytest.param(
            enforcing(sequence=7, first_seen_at=ago(seconds=40)), DriftKind.BEHIND, 40, id="new"
        ),
        pytest.param(enforcing(sequence=7, first_seen_at=ago(seconds=2)), None, None, id="newborn"),
    ],
)
def test_drift_is_what_lasts_longer_than_a_poll(
    seen: Enforcing, kind: DriftKind | None, late_s: float | None
) -> None:
    drift = find_drift(seen, EXPECTED, NOW)

    assert (drift.kind if drift else None) == kind
    assert (drift.late_s if drift else None) == late_s


def test_a_fresh_publication_is_on_its_way_until_a_poll_must_have_brought_it() -> None:
    fresh = replace(EXPECTED, issued_at=NOW)
    behind = enforcing(sequence=7)

    assert find_drift(behind, fresh, NOW + timedelta(seconds=14.9)) is None
    assert find_drift(behind, fresh, NOW + timedelta(seconds=15.1)) is not None


def test_a_rejection_is_drift_at_once() -> None:
    fresh = replace(EXPECTED, issued_at=NOW)

    drift = find_drift(refusing(rejected_at=NOW), fresh, NOW)

    assert drift is not None
    assert (drift.kind, drift.reason, drift.late_s) == (DriftKind.REJECTED, "no", 0)


def test_an_instance_that_missed_a_scheduled_switch_is_behind_since_then() -> None:
    switching = replace(EXPECTED, switches_at=(ago(seconds=60), NOW + timedelta(seconds=60)))

    late = find_drift(enforcing(step=0), switching, NOW)

    assert late is not None
    assert (late.kind, late.late_s) == (DriftKind.BEHIND, 60)
    assert find_drift(enforcing(step=1), switching, NOW) is None
    assert find_drift(enforcing(step=2), switching, NOW) is None  # its clock runs ahead


def test_what_an_instance_should_enforce_depends_on_its_cohort() -> None:
    names = [f"checkout-{number}" for number in range(40)]
    stable = Served(sequence=8, issued_at=ago(minutes=5))
    canary = Served(9, ago(minutes=5), cohort=CANARY, ratio=0.25, salt="a")
    lineup = lineup_of([stable, canary, Served(7, ago(minutes=9))])
    first = {name for name in names if position("a", name) < 0.25}
    assert 0 < len(first) < len(names)

    found = judge_service(
        "checkout",
        lineup,
        [
            enforcing(instance_id=name, sequence=9 if name in first else 8, etag="x")
            for name in names
        ],
        NOW,
    )

    assert (found.live, found.current, found.drifts) == (40, 40, ())
    swapped = judge_service(
        "checkout",
        lineup,
        [
            enforcing(instance_id=name, sequence=8 if name in first else 9, etag="x")
            for name in names
        ],
        NOW,
    )
    kinds = {drift.instance_id: drift.kind for drift in swapped.drifts}
    assert {name for name, kind in kinds.items() if kind is DriftKind.BEHIND} == first
    assert {name for name, kind in kinds.items() if kind is DriftKind.AHEAD} == {*names} - first


def test_a_canary_of_ratio_zero_reaches_nobody() -> None:
    ended = Served(9, ago(minutes=5), cohort=CANARY, ratio=0.0, salt="a")

    assert lineup_of([EXPECTED, ended]).for_instance("checkout-1") == EXPECTED


def test_the_worst_and_the_latest_come_first() -> None:
    found = judge_service(
        "checkout",
        Lineup(stable=EXPECTED),
        [
            enforcing(instance_id="silent", last_seen_at=ago(minutes=10)),
            enforcing(instance_id="behind", sequence=7),
            refusing(instance_id="just-refused", rejected_at=ago(seconds=1)),
            refusing(instance_id="long-refused", rejected_at=ago(seconds=90)),
            enforcing(instance_id="fine"),
        ],
        NOW,
    )

    assert [drift.instance_id for drift in found.drifts] == [
        "long-refused", "just-refused", "behind", "silent",
    ]  # fmt: skip
    assert (found.live, found.current) == (4, 1)
    assert len(found.drifting) == 3
    assert [drift.instance_id for drift in found.silent] == ["silent"]


def test_reasons_without_end_are_grouped_within_a_bound_and_the_first_keep_their_names() -> None:
    drifting = [
        refusing(instance_id=f"i-{number:02}", reason=f"at {number}", rejected_at=ago(seconds=30))
        for number in range(MAX_REASONS + 5)
    ]
    first = refusing(instance_id="first", reason="the first", rejected_at=ago(seconds=99))

    found = group_rejections(
        "prod", [judge_service("checkout", Lineup(EXPECTED), [*drifting, first], NOW)]
    )

    assert len(found) == MAX_REASONS
    assert "the first" in {each.reason for each in found}
    assert found[-1].reason == OTHER_REASONS
    assert sum(len(each.instances) for each in found) == MAX_REASONS + 6


def test_the_fleet_is_judged_in_two_queries_however_large(
    db: None, django_assert_num_queries: Any
) -> None:
    publication_row(8, issued_at=ago(minutes=5))
    publication_row(3, service="", issued_at=ago(minutes=50))
    for number in range(20):
        instance(f"checkout-{number:02}", sequence=8)
    instance("checkout-20", sequence=7)
    instance(
        "checkout-21", sequence=7, state="rejected", rejected_etag="8-0-9f3c", reason="no",
        rejected_at=ago(seconds=4),
    )  # fmt: skip
    instance("newcomer-1", sequence=3, service="newcomer")
    instance("gone", sequence=1, seen_at=ago(minutes=20))

    with django_assert_num_queries(2):
        fleet = fleet_drift("prod", now=NOW)

    assert [service.service for service in fleet.services] == ["checkout", "newcomer"]
    assert (fleet.live, fleet.current, fleet.drifting, fleet.silent) == (23, 21, 2, 0)
    assert [(d.instance_id, d.kind.value) for d in fleet.services[0].drifts] == [
        ("checkout-21", "rejected"),
        ("checkout-20", "behind"),
    ]
    assert fleet_drift("staging", now=NOW).services == ()


def test_rejections_name_service_publication_reason_and_instances(db: None) -> None:
    publication_row(8, issued_at=ago(minutes=5))
    for name, reason in (("checkout-1", "no"), ("checkout-2", "no"), ("checkout-3", "never")):
        instance(
            name, sequence=7, state="rejected", rejected_etag="8-0-9f3c", reason=reason,
            rejected_at=ago(seconds=5),
        )  # fmt: skip
    instance("checkout-4", sequence=8)

    found = list_rejections("prod", now=NOW)

    assert [(each.sequence, each.reason, each.instances, each.live) for each in found] == [
        (8, "no", ("checkout-1", "checkout-2"), 4),
        (8, "never", ("checkout-3",), 4),
    ]
    assert list_rejections("prod", "payments", now=NOW) == []


def test_looking_for_rejections_costs_one_query_while_there_are_none(
    db: None, django_assert_num_queries: Any
) -> None:
    publication_row(8, issued_at=ago(minutes=5))
    for number in range(20):
        instance(f"checkout-{number}", sequence=8)
    with django_assert_num_queries(1):
        assert list_rejections("prod", now=NOW) == []

    instance(
        "checkout-x", sequence=7, state="rejected", rejected_etag="8-0-9f3c",
        rejected_at=ago(seconds=5),
    )  # fmt: skip
    with django_assert_num_queries(4):
        assert len(list_rejections("prod", now=NOW)) == 1


def test_a_missed_switch_is_found_from_the_publication_itself(db: None) -> None:
    publication_row(8, issued_at=ago(minutes=5), scheduled=[scheduled_entry(8, 1, after_s=-60)])
    instance("checkout-1", sequence=8)
    instance("checkout-2", sequence=8, step=1)

    (service,) = fleet_drift("prod", now=NOW).services

    assert [drift.instance_id for drift in service.drifts] == ["checkout-1"]


def test_a_canary_s_instances_are_judged_by_the_canary_s_publication(db: None) -> None:
    names = [f"checkout-{number:02}" for number in range(20)]
    first = {name for name in names if position("salt", name) < 0.25}
    assert 0 < len(first) < len(names)
    publication_row(8, issued_at=ago(minutes=5))
    publication_row(9, issued_at=ago(minutes=5), canary_ratio=0.25)
    for name in names:
        instance(name, sequence=9 if name in first else 8)

    assert fleet_drift("prod", now=NOW).current == len(names)
    publication_row(10, issued_at=ago(minutes=1))
    publication_row(11, issued_at=ago(minutes=1), canary_ratio=0.0)

    (ended,) = fleet_drift("prod", now=NOW).services
    assert {(drift.kind, drift.expected) for drift in ended.drifts} == {(DriftKind.BEHIND, 10)}
    assert len(ended.drifts) == len(names)

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from controlplane.access.models import AuditEntry
from controlplane.kernel.errors import Forbidden
from controlplane.registry.models import Environment, Service
from controlplane.slo.domain.burn import BurnState
from controlplane.slo.domain.objective import Kind
from controlplane.slo.models import BudgetSlice
from controlplane.slo.selectors import service_status
from controlplane.slo.services.evaluate import evaluate, is_roll_up_due, roll_up
from controlplane.slo.services.objectives import ensure_default_objectives, set_objective
from controlplane.telemetry.sources.fake import FakeSource
from controlplane.telemetry.sources.port import QueryRefused, SourceUnavailable
from tests.access.actors import ADMIN, OPERATOR

pytestmark = pytest.mark.django_db


@pytest.fixture
def later(now: datetime) -> datetime:
    """Half a minute and one scrape after a whole minute."""
    return now + timedelta(seconds=45)


def fleet_source(
    names: list[str], *, total: float = 600.0, faults: float = 6.0, fast: float = 500.0
) -> FakeSource:
    return FakeSource(
        {
            "_bucket{": [({"service": name, "le": "0.50"}, fast) for name in names],
            '=~"5..|"': [({"service": name}, faults) for name in names],
            "_count{": [({"service": name}, total) for name in names],
        }
    )


def add_slices(service: Service, end: datetime, *, minutes: int, good: float, total: float) -> None:
    objective = ensure_default_objectives(service, end)[0]
    BudgetSlice.objects.bulk_create(
        BudgetSlice(
            objective=objective,
            start=end - timedelta(minutes=minute + 1),
            good=good,
            total=total,
        )
        for minute in range(minutes)
    )


def test_each_minute_counts_good_and_all_requests(
    checkout: Service, prod: Environment, later: datetime, now: datetime
) -> None:
    availability, latency = ensure_default_objectives(checkout, now)

    evaluate(environment=prod, source=fleet_source(["checkout"]), now=later)

    first = availability.slices.latest("start")
    fast = latency.slices.latest("start")
    assert first.start == now - timedelta(minutes=1)
    assert (first.good, first.total) == (594.0, 600.0)
    assert (fast.good, fast.total) == (500.0, 594.0)


@pytest.mark.parametrize(
    ("scrape_interval_s", "window_s"), [(2, 60), (15, 60), (30, 120), (60, 240), (300, 1200)]
)
def test_minutes_are_measured_over_four_scrapes_and_keep_their_share(
    checkout: Service,
    prod: Environment,
    now: datetime,
    settings: Settings,
    scrape_interval_s: float,
    window_s: int,
) -> None:
    settings.TIDEGATE = replace(settings.TIDEGATE, scrape_interval_s=scrape_interval_s)
    availability, _ = ensure_default_objectives(checkout, now)
    source = fleet_source(["checkout"], total=600.0, faults=6.0)

    evaluate(environment=prod, source=source, now=now + timedelta(seconds=360))

    newest = availability.slices.latest("start")
    share = 60 / window_s
    assert newest.good == pytest.approx(594.0 * share)
    assert newest.total == 600.0 * share
    assert all(f"[{window_s}s]" in query for query in source.asked)


def test_a_partial_answer_is_not_counted_and_the_minutes_stay_due(
    checkout: Service, prod: Environment, later: datetime, now: datetime
) -> None:
    availability, _ = ensure_default_objectives(checkout, now)
    source = fleet_source(["checkout"])
    source.is_partial, source.warnings = True, ("a store did not answer",)

    with pytest.raises(QueryRefused, match="partial and not used: a store did not answer"):
        evaluate(environment=prod, source=source, now=later)
    assert not availability.slices.exists()

    source.is_partial = False
    evaluate(environment=prod, source=source, now=later)
    assert availability.slices.latest("start").total == 600.0


@pytest.mark.parametrize("count", [2, 40])
def test_the_number_of_queries_does_not_depend_on_the_number_of_objectives(
    count: int, checkout: Service, prod: Environment, later: datetime
) -> None:
    names = [f"service-{number}" for number in range(count)]
    for name in names:
        service = Service.objects.create(
            environment=prod, slug=name, team=checkout.team, registered_at=later
        )
        ensure_default_objectives(service, later)
    source = fleet_source(names)
    evaluate(environment=prod, source=source, now=later)
    source.asked.clear()

    evaluate(environment=prod, source=source, now=later + timedelta(minutes=1))

    assert len(source.asked) == 3
    with CaptureQueriesContext(connection) as queries:
        assert len(service_status("prod", later)) == count
    assert len(queries) == 4


def test_a_minute_is_counted_once_however_often_it_is_evaluated(
    checkout: Service, prod: Environment, later: datetime
) -> None:
    ensure_default_objectives(checkout, later)
    evaluate(environment=prod, source=fleet_source(["checkout"]), now=later)
    written = BudgetSlice.objects.count()

    again = evaluate(environment=prod, source=fleet_source(["checkout"]), now=later)

    assert again == 0
    assert written == BudgetSlice.objects.count() == 2 * 360


def test_missed_minutes_are_caught_up_with_three_queries_per_hour(
    checkout: Service, prod: Environment, later: datetime, now: datetime
) -> None:
    availability, _ = ensure_default_objectives(checkout, later)
    source = fleet_source(["checkout"])
    evaluate(environment=prod, source=source, now=later)
    outage = timedelta(minutes=90)

    source.asked.clear()
    written = evaluate(environment=prod, source=source, now=later + outage)

    assert written == 2 * 90
    assert len(source.asked) == 2 * 3
    assert availability.slices.latest("start").start == now + outage - timedelta(minutes=1)


def test_an_outage_longer_than_the_bound_is_not_counted_at_its_beginning(
    checkout: Service, prod: Environment, later: datetime
) -> None:
    availability, _ = ensure_default_objectives(checkout, later)
    source = fleet_source(["checkout"])
    evaluate(environment=prod, source=source, now=later)

    evaluate(environment=prod, source=source, now=later + timedelta(hours=10))

    assert availability.slices.count() == 2 * 360


def test_minutes_stay_due_while_the_source_is_down(
    checkout: Service, prod: Environment, later: datetime
) -> None:
    ensure_default_objectives(checkout, later)
    source = fleet_source(["checkout"])
    source.failure = SourceUnavailable("connection refused")

    with pytest.raises(SourceUnavailable):
        evaluate(environment=prod, source=source, now=later)
    source.failure = None

    assert evaluate(environment=prod, source=source, now=later) == 2 * 360


def test_a_minute_without_traffic_leaves_no_slice(
    checkout: Service, prod: Environment, later: datetime
) -> None:
    ensure_default_objectives(checkout, later)

    written = evaluate(
        environment=prod, source=fleet_source(["checkout"], total=0, faults=0, fast=0), now=later
    )

    assert written == 0
    assert service_status("prod", later)["checkout"].worst_remaining is None


def test_a_histogram_without_the_threshold_bound_counts_nothing(
    checkout: Service, prod: Environment, later: datetime
) -> None:
    set_objective(
        actor=ADMIN, service=checkout, kind=Kind.LATENCY, target=0.9, threshold_ms=250.0, now=later
    )

    assert evaluate(environment=prod, source=fleet_source(["checkout"]), now=later) == 0


def test_extrapolated_counts_never_make_more_good_requests_than_requests(
    checkout: Service, prod: Environment, later: datetime
) -> None:
    _, latency = ensure_default_objectives(checkout, later)

    evaluate(environment=prod, source=fleet_source(["checkout"], fast=594.2), now=later)

    last = latency.slices.latest("start")
    assert last.good == last.total == 594.0


def test_minutes_become_hours_without_changing_the_sums(checkout: Service, now: datetime) -> None:
    add_slices(checkout, now, minutes=24 * 60, good=9.0, total=10.0)
    before = service_status("prod", now)["checkout"].objectives[0]

    assert is_roll_up_due(now)
    hours = roll_up(now=now)

    after = service_status("prod", now)["checkout"].objectives[0]
    assert hours == 16
    assert BudgetSlice.objects.filter(length_s=60).count() == 8 * 60 + 14
    assert (after.total, after.bad) == (before.total, before.bad) == (14_400.0, 1440.0)
    assert not is_roll_up_due(now)
    assert roll_up(now=now) == 0


def test_the_status_names_the_burn_and_what_is_left(checkout: Service, now: datetime) -> None:
    add_slices(checkout, now, minutes=60, good=950.0, total=1000.0)

    status = service_status("prod", now)["checkout"]
    availability = status.objectives[0]

    assert availability.name == "availability"
    assert availability.burn_1h == pytest.approx(50.0)
    assert availability.burn_5m == pytest.approx(50.0)
    assert availability.budget_remaining == pytest.approx(-49.0)
    assert availability.state is BurnState.FIRING
    assert availability.coverage == "over 1 h 0 min of 30 days"
    assert status.worst_remaining == pytest.approx(-49.0)
    assert status.worst_burn == pytest.approx(49, abs=2)


def test_an_hour_that_nobody_counted_shows_no_burn(checkout: Service, now: datetime) -> None:
    add_slices(checkout, now - timedelta(hours=2), minutes=60, good=950.0, total=1000.0)

    availability = service_status("prod", now)["checkout"].objectives[0]

    assert availability.burn_1h is None
    assert availability.budget_remaining is not None


def test_an_objective_without_counts_has_no_data(checkout: Service, now: datetime) -> None:
    ensure_default_objectives(checkout, now)

    status = service_status("prod", now)["checkout"]

    assert [objective.state for objective in status.objectives] == [BurnState.NO_DATA] * 2
    assert status.worst_burn is None
    assert status.objectives[1].name == "latency under 500 ms"


def test_default_objectives_do_not_replace_what_a_team_decided(
    checkout: Service, now: datetime
) -> None:
    set_objective(actor=ADMIN, service=checkout, kind=Kind.AVAILABILITY, target=0.95, now=now)

    objectives = ensure_default_objectives(checkout, now)

    assert [objective.target for objective in objectives] == [0.95, 0.99]


def test_another_threshold_drops_the_counts_of_the_old_one(
    checkout: Service, prod: Environment, later: datetime
) -> None:
    _, latency = ensure_default_objectives(checkout, later)
    evaluate(environment=prod, source=fleet_source(["checkout"]), now=later)

    changed = set_objective(
        actor=ADMIN, service=checkout, kind=Kind.LATENCY, target=0.99, threshold_ms=250.0, now=later
    )

    assert changed.pk == latency.pk
    assert latency.slices.count() == 0


def test_who_sets_an_objective_is_checked_and_recorded(checkout: Service, now: datetime) -> None:
    for target in (0.95, 0.95, 0.99):
        set_objective(actor=ADMIN, service=checkout, kind=Kind.AVAILABILITY, target=target, now=now)
    with pytest.raises(Forbidden):
        set_objective(actor=OPERATOR, service=checkout, kind=Kind.AVAILABILITY, target=0.5, now=now)

    entries = AuditEntry.objects.order_by("number")
    assert [entry.action for entry in entries] == ["objective.set", "objective.changed"]
    assert entries[1].data == {"changes": {"target": {"before": 0.95, "after": 0.99}}}

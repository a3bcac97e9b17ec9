from __future__ import annotations

from datetime import datetime

import pytest

from controlplane.registry.models import Environment, Service
from controlplane.slo import tasks
from controlplane.slo.domain.objective import Kind
from controlplane.slo.models import BudgetSlice, Objective
from controlplane.slo.services.objectives import set_objective
from controlplane.telemetry.sources.fake import FakeSource
from controlplane.telemetry.sources.port import SourceUnavailable
from tests.access.actors import ADMIN

pytestmark = pytest.mark.django_db


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, now: datetime) -> FakeSource:
    source = FakeSource({"_count{": [({"service": "checkout"}, 60.0)]})
    monkeypatch.setattr(tasks, "signal_source", lambda: source)
    monkeypatch.setattr(tasks, "utc_now", lambda: now)
    return source


def test_every_registered_service_gets_objectives_and_is_counted(
    checkout: Service, source: FakeSource
) -> None:
    tasks.evaluate()
    tasks.evaluate()

    assert {objective.kind for objective in Objective.objects.filter(service=checkout)} == {
        "availability",
        "latency",
    }
    assert BudgetSlice.objects.exists()


def test_a_service_whose_team_decided_keeps_exactly_that(
    checkout: Service, source: FakeSource, now: datetime
) -> None:
    mine = set_objective(
        actor=ADMIN, service=checkout, kind=Kind.AVAILABILITY, target=0.95, now=now
    )

    tasks.evaluate()

    assert list(Objective.objects.all()) == [mine]


def test_a_source_that_is_down_stops_neither_the_task_nor_other_environments(
    checkout: Service, source: FakeSource, now: datetime
) -> None:
    staging = Environment.objects.create(slug="staging", name="Staging")
    Service.objects.create(
        environment=staging, slug="checkout", team=checkout.team, registered_at=now
    )
    source.failures['environment="prod"'] = SourceUnavailable("connection refused")

    tasks.evaluate()

    counted = BudgetSlice.objects.values_list(
        "objective__service__environment__slug", flat=True
    ).distinct()
    assert set(counted) == {"staging"}

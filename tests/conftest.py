"""What every test may use: a fixed now, one team, one environment, one service."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import settings

from controlplane.access.models import Team
from controlplane.delivery.selectors import SETTLED
from controlplane.registry.models import Environment, Service

pytest_plugins = ["tests.scenarios.fixtures"]


@pytest.fixture(autouse=True)
def nothing_is_settled() -> None:
    SETTLED.forget()


# A busy machine is no reason for a property to fail; the timeout of a test catches what hangs.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 2, 2, 14, 0, tzinfo=UTC)


@pytest.fixture
def team(db: None) -> Team:
    return Team.objects.create(slug="payments-team", name="Payments")


@pytest.fixture
def prod(db: None) -> Environment:
    return Environment.objects.create(slug="prod", name="Production")


@pytest.fixture
def checkout(prod: Environment, team: Team, now: datetime) -> Service:
    return Service.objects.create(
        environment=prod, slug="checkout", team=team, tier=1, registered_at=now
    )

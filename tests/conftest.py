"""What every test may use: a fixed now, one team, one environment, one service."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings

from controlplane.access.models import Team
from controlplane.delivery.selectors import SETTLED
from controlplane.registry.models import Environment, Service

pytest_plugins = [
    "tests.databases.choice",
    "tests.scenarios.fixtures",
    "tests.scenarios.order",
    "tests.soak.figures",
]


@pytest.fixture(autouse=True)
def nothing_is_settled() -> None:
    SETTLED.forget()


# A busy machine is no reason for a property to fail; the timeout of a test catches what hangs.
# The suite tries the same examples each time, so that it judges the change and not the dice;
# new ones are looked for with `pytest --hypothesis-profile=explore`.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", _UNTIMED, derandomize=True)
settings.register_profile("explore", _UNTIMED, max_examples=2000)
settings.load_profile("same")


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

"""Pages at a fixed now, with a fleet to look at and people who look at it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import datetime

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from controlplane.access.models import Membership
from controlplane.registry.models import Dependency, Endpoint, Service
from controlplane.telemetry.selectors import forget_pictures
from controlplane.telemetry.services import ranges
from controlplane.telemetry.sources.fake import FakeSource
from controlplane.telemetry.sources.shared_cache import forget_failure

VIEWS = ("canary", "fleet", "service", "tune", "changes", "rollback", "convergence")


@pytest.fixture(autouse=True)
def source(monkeypatch: pytest.MonkeyPatch, now: datetime) -> Iterator[FakeSource]:
    """Each test starts as a new process: nothing cached, the clock stands, Prometheus is empty."""
    cache.clear()
    forget_pictures()
    forget_failure()
    fake = FakeSource()
    monkeypatch.setattr(ranges, "signal_source", lambda: fake)
    for name in VIEWS:
        monkeypatch.setattr(
            importlib.import_module(f"dashboards.views.{name}"), "utc_now", lambda: now
        )
    yield fake
    cache.clear()
    forget_pictures()


def _client(name: str, role: str) -> Client:
    user = User.objects.create_user(name)
    Membership.objects.create(user=user, role=role)
    client = Client(raise_request_exception=True)
    client.force_login(user)
    return client


@pytest.fixture
def operator(db: None) -> Client:
    return _client("oncall", "operator")


@pytest.fixture
def viewer(db: None) -> Client:
    return _client("viewer", "viewer")


@pytest.fixture
def fleet(checkout: Service, now: datetime) -> dict[str, Service]:
    """checkout, which calls payments, and payments."""
    payments = Service.objects.create(
        environment=checkout.environment, slug="payments", team=checkout.team, tier=1,
        registered_at=now,
    )  # fmt: skip
    Endpoint.objects.create(
        service=checkout, method="POST", route="/orders", criticality="critical_plus"
    )
    Dependency.objects.create(service=checkout, name="payments", target=payments)
    return {"checkout": checkout, "payments": payments}

from __future__ import annotations

import sys
from importlib import import_module

import pytest
from django.conf import settings

from controlplane.kernel import clock
from controlplane.kernel.clock import utc_now
from tests.api.client import ApiClient, client_with


@pytest.fixture(autouse=True)
def the_clock_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends, expires or is late because a test took long."""
    import_module(settings.ROOT_URLCONF)  # all of the API
    now = utc_now()
    for module in [*sys.modules.values()]:
        # Not where it is from: what is imported later would keep the clock of this test.
        if module is not clock and vars(module).get("utc_now") is utc_now:
            monkeypatch.setattr(module, "utc_now", lambda: now)


@pytest.fixture
def viewer(db: None) -> ApiClient:
    return client_with("viewer", "viewer")


@pytest.fixture
def oncall(db: None) -> ApiClient:
    return client_with("operator", "oncall")


@pytest.fixture
def admin(db: None) -> ApiClient:
    return client_with("admin", "admin")

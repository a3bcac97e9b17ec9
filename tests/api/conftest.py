from __future__ import annotations

import pytest

from tests.api.client import ApiClient, client_with


@pytest.fixture
def viewer(db: None) -> ApiClient:
    return client_with("viewer", "viewer")


@pytest.fixture
def oncall(db: None) -> ApiClient:
    return client_with("operator", "oncall")


@pytest.fixture
def admin(db: None) -> ApiClient:
    return client_with("admin", "admin")

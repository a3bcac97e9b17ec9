"""No answer of a moment or of a person is left in a cache."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.api.client import client_with, user_with


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/changes/999/", "/theme/", "/regions/fleet", "/api/v1/me", "/api/v1/x"]
)
@pytest.mark.parametrize("is_signed_in", [True, False], ids=["signed in", "anonymous"])
def test_pages_refusals_and_redirects_are_not_stored(
    db: None, path: str, is_signed_in: bool
) -> None:
    client = Client()
    if is_signed_in:
        client.force_login(user_with("viewer", "viewer"))

    assert "no-store" in client.get(path).headers["Cache-Control"]


def test_what_the_api_tells_a_token_is_not_stored(db: None) -> None:
    assert client_with("viewer").get("/me").headers["Cache-Control"] == "no-store"

"""Signing keys over the operator API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils.dateparse import parse_datetime

from controlplane.access.models import AuditEntry
from controlplane.delivery.models import SigningKey
from controlplane.delivery.services.signing_keys import ensure_signing_key
from controlplane.kernel.clock import utc_now
from tests.api.client import SEED, ApiClient

KEYS = "/signing-keys"


@pytest.fixture
def first(db: None) -> SigningKey:
    return ensure_signing_key(actor=SEED, now=utc_now() - timedelta(hours=1))


def statuses(client: ApiClient) -> dict[str, str]:
    return {key["kid"]: key["status"] for key in client.get(KEYS).json()["signing_keys"]}


def test_a_viewer_sees_the_keys_and_never_their_private_parts(
    viewer: ApiClient, first: SigningKey
) -> None:
    listed = viewer.get(KEYS)
    one = viewer.get(f"{KEYS}/{first.kid}")

    assert listed.json()["signing_keys"] == [one.json()]
    assert (one.json()["status"], one.json()["endorsed_by"]) == ("active", [])
    assert first.sealed_private not in (listed.content + one.content).decode()


def test_a_rotation_announces_a_key_once_however_often_it_is_sent(
    admin: ApiClient, first: SigningKey
) -> None:
    body = {"reason": "yearly", "lead_s": 600}
    before = utc_now()

    answers = [admin.post(f"{KEYS}/rotate", body, Idempotency_Key="k1") for _ in range(2)]

    made = answers[0].json()
    active_from = parse_datetime(made["active_from"])
    assert active_from is not None
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert answers[0].headers["Location"].endswith(f"/api/v1/signing-keys/{made['kid']}")
    assert timedelta(0) <= active_from - before - timedelta(seconds=600) < timedelta(seconds=60)
    assert made["endorsed_by"] == [first.kid]
    assert statuses(admin) == {first.kid: "active", made["kid"]: "next"}


def test_a_withdrawal_says_which_clients_have_to_be_touched(
    admin: ApiClient, first: SigningKey
) -> None:
    answer = admin.post(f"{KEYS}/{first.kid}/withdraw", {"reason": "laptop stolen"})

    done = answer.json()
    assert answer.status_code == 200
    assert (done["withdrawn"]["status"], done["active"]["status"]) == ("withdrawn", "active")
    assert f"pinned only {first.kid}" in done["consequence"]
    assert AuditEntry.objects.get(action="signing_key.withdrawn").reason == "laptop stolen"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "reason"),
        ({"reason": " "}, "reason"),
        ({"reason": "x", "lead_s": 119}, "lead_s"),
        ({"reason": "x", "lead_s": 1e300}, "lead_s"),
        ({"reason": "x", "lead_s": "600"}, "lead_s"),
        ({"reason": "x", "lead_s": True}, "lead_s"),
        ({"reason": "x", "lead_s": None}, "lead_s"),
        ({"reason": "x", "leed_s": 600}, "leed_s"),
    ],
)
def test_a_bad_rotation_is_refused_by_field(
    admin: ApiClient, first: SigningKey, body: dict[str, Any], field: str
) -> None:
    answer = admin.post(f"{KEYS}/rotate", body)

    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert SigningKey.objects.count() == 1


def test_only_an_admin_rotates_and_withdraws(
    oncall: ApiClient, viewer: ApiClient, first: SigningKey
) -> None:
    for client in (oncall, viewer):
        for address in (f"{KEYS}/rotate", f"{KEYS}/{first.kid}/withdraw"):
            assert client.post(address, {"reason": "x"}).status_code == 403


def test_what_does_not_fit_the_present_state_is_a_conflict(
    admin: ApiClient, first: SigningKey
) -> None:
    admin.post(f"{KEYS}/rotate", {"reason": "x"})

    assert admin.post(f"{KEYS}/rotate", {"reason": "x"}).status_code == 409
    assert admin.post(f"{KEYS}/unknown/withdraw", {"reason": "x"}).status_code == 404
    assert admin.get(f"{KEYS}/unknown").status_code == 404


def test_the_list_comes_in_pages(admin: ApiClient, first: SigningKey) -> None:
    made = admin.post(f"{KEYS}/rotate", {"reason": "x"}).json()

    page = admin.get(f"{KEYS}?limit=1").json()
    rest = admin.get(f"{KEYS}?limit=1&cursor={page['next_cursor']}").json()

    assert [key["kid"] for key in page["signing_keys"]] == [first.kid]
    assert [key["kid"] for key in rest["signing_keys"]] == [made["kid"]]
    assert rest["next_cursor"] is None

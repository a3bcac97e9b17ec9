"""Service tokens over the operator API: the text is shown once, and kept nowhere."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from controlplane.access.models import AuditEntry, ServiceToken
from controlplane.access.selectors import find_token
from controlplane.kernel.clock import utc_now
from controlplane.resilience.models import IdempotencyKey
from tests.api.client import ApiClient

TOKENS = "/service-tokens"
BODY = {"environment": "prod", "service": "checkout", "label": "deployment"}


def made(client: ApiClient, **changes: Any) -> dict[str, Any]:
    answer = client.post(TOKENS, {**BODY, **changes})
    assert answer.status_code == 201, answer.content
    document: dict[str, Any] = answer.json()
    return document


def test_a_token_is_made_and_its_text_is_never_shown_again(admin: ApiClient) -> None:
    token = made(admin)

    listed = admin.get(TOKENS)
    one = admin.get(f"{TOKENS}/{token['id']}")

    found = find_token(token["token"], now=utc_now())
    assert found is not None
    assert found.service == "checkout"
    assert listed.json()["service_tokens"] == [one.json()]
    assert one.json() == {name: token[name] for name in token if name != "token"}
    assert one.json()["status"] == "live"
    assert b"token_hash" not in listed.content + one.content


@pytest.mark.parametrize("action", ["create", "rotate"])
def test_a_repeated_request_makes_one_token_and_stores_its_text_nowhere(
    admin: ApiClient, action: str
) -> None:
    address, body = TOKENS, dict[str, Any](BODY)
    if action == "rotate":
        address, body = f"{TOKENS}/{made(admin)['id']}/rotate", {"grace_s": 3600}
    count = ServiceToken.objects.count()

    with capture_logs() as lines:
        first = admin.post(address, body, Idempotency_Key="k1")
        again = admin.post(address, body, Idempotency_Key="k1")

    text = first.json()["token"]
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == {**first.json(), "token": None}
    assert ServiceToken.objects.count() == count + 1
    stored = [*IdempotencyKey.objects.values(), *ServiceToken.objects.values()]
    assert text not in str([*stored, *AuditEntry.objects.values()])
    assert text not in str(lines)
    assert first.headers["Cache-Control"] == "no-store"


def test_a_rotation_lets_both_tokens_work(admin: ApiClient) -> None:
    old = made(admin)

    new = admin.post(f"{TOKENS}/{old['id']}/rotate", {"grace_s": 3600}).json()

    before = admin.get(f"{TOKENS}/{old['id']}").json()
    assert (before["status"], before["successor"]) == ("rotated", new["id"])
    for text in (old["token"], new["token"]):
        assert find_token(text, now=utc_now()) is not None


def test_a_revoked_token_is_worthless(admin: ApiClient) -> None:
    token = made(admin)

    answer = admin.post(f"{TOKENS}/{token['id']}/revoke")

    assert (answer.status_code, answer.json()["status"]) == (200, "revoked")
    assert find_token(token["token"], now=utc_now()) is None
    assert admin.post(f"{TOKENS}/{token['id']}/revoke").status_code == 409
    assert admin.post(f"{TOKENS}/{token['id']}/rotate", {}).status_code == 409


def test_the_list_is_filtered_and_comes_in_pages(admin: ApiClient) -> None:
    first, second = made(admin), made(admin)
    made(admin, service="payments")
    made(admin, environment="staging")

    query = f"{TOKENS}?environment=prod&service=checkout&limit=1"
    page = admin.get(query).json()
    rest = admin.get(f"{query}&cursor={page['next_cursor']}").json()

    assert [each["id"] for each in page["service_tokens"]] == [second["id"]]
    assert [each["id"] for each in rest["service_tokens"]] == [first["id"]]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"environment": ""}, "environment"),
        ({"service": 7}, "service"),
        ({"label": "two\nlines"}, "label"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": None}, "expires_at"),
        ({"lable": "x"}, "lable"),
    ],
)
def test_a_bad_token_is_refused_by_field(
    admin: ApiClient, changes: dict[str, Any], field: str
) -> None:
    answer = admin.post(TOKENS, {**BODY, **changes})

    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert not ServiceToken.objects.filter(kind="service").exists()


@pytest.mark.parametrize("grace_s", [59, 30 * 86400 + 1, "3600", None, True])
def test_a_bad_grace_is_refused(admin: ApiClient, grace_s: Any) -> None:
    token = made(admin)

    answer = admin.post(f"{TOKENS}/{token['id']}/rotate", {"grace_s": grace_s})

    assert (answer.status_code, answer.json()["field"]) == (422, "grace_s")


def test_only_an_admin_makes_rotates_and_revokes(
    admin: ApiClient, oncall: ApiClient, viewer: ApiClient
) -> None:
    token = made(admin)

    for client in (oncall, viewer):
        assert client.get(TOKENS).status_code == 200
        assert client.post(TOKENS, BODY).status_code == 403
        for action in ("rotate", "revoke"):
            assert client.post(f"{TOKENS}/{token['id']}/{action}", {}).status_code == 403


def test_an_operator_token_is_not_reached_here(admin: ApiClient) -> None:
    operator_token = ServiceToken.objects.get(kind="operator")

    assert admin.get(f"{TOKENS}/{operator_token.pk}").status_code == 404
    assert admin.post(f"{TOKENS}/{operator_token.pk}/revoke").status_code == 404

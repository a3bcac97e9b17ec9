from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from controlplane.access.models import ServiceToken
from controlplane.access.services.tokens import create_service_token
from controlplane.kernel.clock import utc_now
from controlplane.policies.models import Override
from controlplane.registry.models import Environment, Service
from tests.api.client import SEED, ApiClient, client_with, user_with
from tests.policies.builders import open_on, publish_on, shed, stored_state

BODY = {"patch": shed(1), "reason": "x"}


def problem(response: Any) -> dict[str, Any]:
    assert response.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == response.status_code
    return document


def test_without_a_sign_in_everything_is_a_401_with_a_challenge(checkout: Service) -> None:
    for path in ("/services", "/services/checkout/policy", "/changes", "/schema", "/docs", "/me"):
        response = Client().get(f"/api/v1{path}")

        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert problem(response)["code"] == "not-authenticated"


@pytest.mark.parametrize("token", ["", "nonsense", "tgo_" + "x" * 43, "ä" * 40])
def test_a_wrong_token_is_a_401(checkout: Service, token: str) -> None:
    header = f"Bearer {token}".encode().decode("latin-1")

    response = Client().get("/api/v1/services", headers={"Authorization": header})

    assert response.status_code == 401
    assert "unknown, revoked or expired" in problem(response)["detail"]


def test_a_service_token_opens_no_operator_api(checkout: Service) -> None:
    _, text = create_service_token(
        actor=SEED, environment="prod", service="checkout", label="x", now=utc_now()
    )

    response = ApiClient(text).get("/services")

    assert response.status_code == 401
    assert "use an operator token" in problem(response)["detail"]


def test_a_revoked_token_and_an_inactive_user_are_refused(oncall: ApiClient) -> None:
    token = ServiceToken.objects.select_related("user").get()
    assert token.user is not None
    token.user.is_active = False
    token.user.save()
    assert oncall.get("/me").status_code == 401

    token.user.is_active = True
    token.user.save()
    assert oncall.get("/me").status_code == 200
    ServiceToken.objects.update(revoked_at=utc_now())
    assert oncall.get("/me").status_code == 401


def test_me_says_who_asks_and_with_which_roles(oncall: ApiClient) -> None:
    assert oncall.get("/me").json() == {
        "name": "oncall/test",
        "kind": "token",
        "grants": [{"role": "operator", "team": None}],
    }


def test_somebody_without_a_role_sees_nothing(checkout: Service) -> None:
    nobody = client_with(None, "nobody")

    response = nobody.get("/services")

    assert response.status_code == 403
    assert problem(response)["detail"] == "nobody/test may not do service.read"


def test_a_viewer_reads_everything_and_changes_nothing(
    checkout: Service, viewer: ApiClient
) -> None:
    publish_on(checkout, utc_now(), {})
    override = open_on(checkout, utc_now())
    before = stored_state()
    reads = [
        "/me", "/environments", "/services", "/services/checkout", "/services/checkout/policy",
        "/services/checkout/versions", "/services/checkout/versions/1",
        "/services/checkout/overrides", f"/overrides/{override.pk}", "/fleet-default",
        "/fleet-default/versions", "/changes", "/instances", "/signals",
        "/services/checkout/signals", "/services/checkout/convergence", "/policy-schema",
        "/schema", "/docs",
    ]  # fmt: skip
    writes = {
        "/services/checkout/versions": {"document": {}, "reason": "x"},
        "/services/checkout/versions/1/publish": {"reason": "x"},
        "/services/checkout/overrides": BODY,
        f"/overrides/{override.pk}/extend": {"by_s": 60, "reason": "x"},
        f"/overrides/{override.pk}/revert": {"reason": "x"},
        "/fleet-default": {"document": {}, "reason": "x"},
        "/fleet-default/versions/1/publish": {"reason": "x"},
    }

    assert {path: viewer.get(path).status_code for path in reads} == dict.fromkeys(reads, 200)
    for path, body in writes.items():
        response = viewer.post(path, body)
        assert (path, response.status_code) == (path, 403)
        assert problem(response)["code"] == "forbidden"

    assert stored_state() == before


def test_an_operator_may_not_publish_the_fleet_default(
    prod: Environment, oncall: ApiClient
) -> None:
    response = oncall.post("/fleet-default", {"document": {}, "reason": "x"})

    assert response.status_code == 403


def test_a_session_needs_its_csrf_token_for_changes(checkout: Service) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user_with("operator", "oncall"))
    path = "/api/v1/services/checkout/overrides"

    assert browser.get(path).status_code == 200
    without = browser.post(path, BODY, content_type="application/json")
    assert without.status_code == 403
    assert "CSRF" in problem(without)["detail"]
    assert Override.objects.count() == 0

    browser.cookies["csrftoken"] = "x" * 32
    sent = browser.post(
        path, BODY, content_type="application/json", headers={"X-CSRFToken": "x" * 32}
    )
    assert sent.status_code == 201
    assert Override.objects.get().opened_by == "oncall"


def test_an_unknown_address_and_method_are_problems_too(viewer: ApiClient) -> None:
    unknown = viewer.get("/nope")
    wrong_method = viewer.post("/changes")

    assert (unknown.status_code, problem(unknown)["code"]) == (404, "not-found")
    assert (wrong_method.status_code, problem(wrong_method)["code"]) == (405, "method-not-allowed")


def test_the_request_id_of_the_caller_is_in_the_audit_entry(
    checkout: Service, oncall: ApiClient
) -> None:
    from controlplane.access.models import AuditEntry
    from controlplane.kernel.logs import request_id_var

    token = request_id_var.set("night-42")
    try:
        oncall.post("/services/checkout/overrides", BODY)
    finally:
        request_id_var.reset(token)

    entry = AuditEntry.objects.get(action="override.opened")
    assert (entry.request_id, entry.actor, entry.actor_kind) == ("night-42", "oncall/test", "token")

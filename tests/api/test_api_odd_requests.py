"""Requests that nobody sends by accident, each answered in words and never with a 500."""

from __future__ import annotations

import pytest

from controlplane.kernel.clock import utc_now
from controlplane.policies.models import Override
from controlplane.registry.models import Service
from tests.api.client import ApiClient
from tests.policies.builders import deadline, publish_on

OVERRIDES = "/services/checkout/overrides"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=" + "9" * 5000, "limit"),
        ("limit=-1", "limit"),
        ("since=0001-01-01T00:00:00%2B14:00", "since"),
        ("since=9999-12-31T23:59:59-14:00", "since"),
        ("since=2026-01-01T00:00:00", "since"),
    ],
    ids=["endless limit", "negative limit", "before all time", "after all time", "no zone"],
)
def test_an_odd_parameter_of_the_history_is_refused_by_name(
    checkout: Service, viewer: ApiClient, query: str, field: str
) -> None:
    response = viewer.get(f"/changes?{query}")

    assert response.status_code == 422
    assert response.json()["field"] == field


def test_a_body_too_large_for_the_server_is_refused_with_a_key_as_without(
    checkout: Service, oncall: ApiClient
) -> None:
    body = b'{"reason": "' + b"x" * 1_200_000 + b'"}'

    answers = [oncall.post(OVERRIDES, body), oncall.post(OVERRIDES, body, Idempotency_Key="k1")]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert {answer.json()["detail"] for answer in answers} == {"the body is larger than 512 KiB"}


def test_an_override_is_not_opened_on_a_policy_that_has_changed(
    checkout: Service, oncall: ApiClient
) -> None:
    body = {"patch": deadline(900), "reason": "x"}
    seen = oncall.get("/services/checkout/policy").headers["ETag"]
    publish_on(checkout, utc_now(), deadline(1000))

    assert oncall.post(OVERRIDES, body, If_Match=seen).status_code == 412
    assert oncall.post(OVERRIDES, body, If_Match="v1").status_code == 422
    assert Override.objects.count() == 0
    now = oncall.get("/services/checkout/policy").headers["ETag"]
    assert oncall.post(OVERRIDES, body, If_Match=now).status_code == 201

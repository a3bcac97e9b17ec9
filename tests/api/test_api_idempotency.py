from __future__ import annotations

import pytest

from controlplane.access.models import AuditEntry
from controlplane.access.services import audit
from controlplane.kernel.clock import utc_now
from controlplane.policies.models import Override, PolicyVersion
from controlplane.registry.models import Service
from controlplane.resilience.models import IdempotencyKey
from controlplane.resilience.services import idempotency
from tests.api.client import ApiClient, client_with
from tests.policies.builders import open_on, shed

OVERRIDES = "/services/checkout/overrides"
BODY = {"patch": shed(2), "reason": "drowning"}


def test_a_repeated_request_acts_once_and_gets_the_same_answer(
    checkout: Service, oncall: ApiClient
) -> None:
    first = oncall.post(OVERRIDES, BODY, Idempotency_Key="k1")
    again = oncall.post(OVERRIDES, BODY, Idempotency_Key="k1")

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert Override.objects.count() == 1
    assert AuditEntry.objects.filter(action="override.opened").count() == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/services/checkout/versions", {"document": {}, "reason": "x"}),
        ("/services/checkout/versions/1/publish", {"reason": "x"}),
        ("/overrides/{override}/extend", {"by_s": 60, "reason": "x"}),
        ("/overrides/{override}/revert", {"reason": "x"}),
        ("/fleet-default", {"document": {}, "reason": "x"}),
        ("/fleet-default/versions/1/publish", {"reason": "x"}),
    ],
)
def test_every_post_honours_the_key(
    checkout: Service, admin: ApiClient, path: str, body: dict[str, object]
) -> None:
    admin.post("/services/checkout/versions", {"document": {}, "reason": "x"})
    admin.post("/fleet-default", {"document": {}, "reason": "x"})
    address = path.format(override=open_on(checkout, utc_now()).pk)
    count = AuditEntry.objects.count()

    answers = [admin.post(address, body, Idempotency_Key="k1") for _ in range(3)]

    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.content for answer in answers}) == 1
    assert AuditEntry.objects.count() == count + 1


def test_a_key_used_for_another_body_is_refused(checkout: Service, oncall: ApiClient) -> None:
    oncall.post(OVERRIDES, BODY, Idempotency_Key="k1")

    other = oncall.post(OVERRIDES, {**BODY, "lasts_s": 60}, Idempotency_Key="k1")

    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")
    assert Override.objects.count() == 1


def test_another_client_with_the_same_key_acts_for_itself(
    checkout: Service, oncall: ApiClient
) -> None:
    oncall.post(OVERRIDES, BODY, Idempotency_Key="k1")
    client_with("operator", "second").post(OVERRIDES, BODY, Idempotency_Key="k1")

    assert Override.objects.count() == 2


def test_a_repeat_while_the_first_is_worked_on_is_a_409(
    checkout: Service, oncall: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[int] = []
    record = audit.record

    def repeat_meanwhile(**values: object) -> object:
        statuses.append(oncall.post(OVERRIDES, BODY, Idempotency_Key="k1").status_code)
        return record(**values)  # type: ignore[arg-type]

    monkeypatch.setattr(audit, "record", repeat_meanwhile)
    first = oncall.post(OVERRIDES, BODY, Idempotency_Key="k1")

    assert (first.status_code, statuses) == (201, [409])
    assert Override.objects.count() == 1


def test_a_refused_request_leaves_its_key_free(checkout: Service, oncall: ApiClient) -> None:
    refused = oncall.post(OVERRIDES, {**BODY, "patch": {}}, Idempotency_Key="k1")
    accepted = oncall.post(OVERRIDES, BODY, Idempotency_Key="k1")

    assert (refused.status_code, accepted.status_code) == (422, 201)


def test_work_whose_answer_cannot_be_stored_is_rolled_back(
    checkout: Service, oncall: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(**_: object) -> None:
        raise RuntimeError("lost")

    monkeypatch.setattr(idempotency, "store_answer", failing)

    response = oncall.post(
        "/services/checkout/versions", {"document": {}, "reason": "x"}, Idempotency_Key="k1"
    )

    assert response.status_code == 500
    assert PolicyVersion.objects.count() == 0
    assert IdempotencyKey.objects.count() == 0


@pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
def test_a_bad_key_is_refused(checkout: Service, oncall: ApiClient, key: str) -> None:
    response = oncall.post(OVERRIDES, BODY, Idempotency_Key=key)

    assert response.status_code == 422
    assert Override.objects.count() == 0

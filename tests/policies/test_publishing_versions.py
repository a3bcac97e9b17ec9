from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from controlplane.access.domain.roles import Role
from controlplane.access.models import AuditEntry
from controlplane.kernel.errors import Forbidden, InvalidInput, NotFound, PreconditionFailed
from controlplane.policies.models import PolicyVersion, Publication
from controlplane.policies.selectors import (
    current_version,
    effective_policy,
    latest_publication,
    list_versions,
    policy_layers,
)
from controlplane.policies.services import publish_version, roll_back_version
from controlplane.registry.models import Service
from tests.access.actors import NOBODY, OPERATOR, VIEWER, actor_with
from tests.policies.builders import (
    backoff,
    deadline,
    newest,
    publish_on,
    shed,
    stored_state,
)


def test_a_version_its_audit_entry_and_its_publication_are_stored_together(
    checkout: Service, now: datetime
) -> None:
    version = publish_on(checkout, now, deadline(2000))

    publication = newest()
    entry = AuditEntry.objects.get()
    assert (version.number, version.document) == (1, deadline(2000))
    assert publication.policy["inbound"]["deadline_ms"] == 2000
    assert publication.policy["inbound"]["concurrency"]["max"] == 200
    assert (publication.version_number, publication.cause) == (1, "version.published")
    assert (publication.scheduled, publication.issued_at) == ([], now)
    assert publication.etag.startswith(f"{publication.sequence}-0-")
    assert (entry.action, entry.subject) == ("version.published", "version:checkout:1")
    assert entry.data["sequence"] == publication.sequence
    assert entry.data["changes"] == [
        {"path": "inbound.deadline_ms", "before": 3000, "after": 2000, "kind": "changed"}
    ]


def test_versions_are_numbered_and_the_newest_is_in_force(checkout: Service, now: datetime) -> None:
    for milliseconds in (1000, 2000, 2500):
        publish_on(checkout, now, deadline(milliseconds))

    assert [version.number for version in list_versions(checkout)] == [3, 2, 1]
    assert [version.number for version in list_versions(checkout, before_number=3)] == [2, 1]
    current = current_version(checkout)
    assert current is not None
    assert current.number == 3
    leaf = effective_policy(checkout, now).leaves["inbound.deadline_ms"]
    assert (leaf.value, leaf.layer) == (2500, "v3")
    assert [layer.label for layer in policy_layers(checkout, now)] == ["v3"]


def test_sequences_grow_and_etags_differ_even_for_the_same_document(
    checkout: Service, now: datetime
) -> None:
    for _ in range(3):
        publish_on(checkout, now, deadline(2000))

    rows = list(Publication.objects.order_by("sequence").values_list("sequence", "etag"))
    assert [sequence for sequence, _ in rows] == [1, 2, 3]
    assert len({etag for _, etag in rows}) == 3


def test_a_stale_expected_number_publishes_nothing(checkout: Service, now: datetime) -> None:
    publish_on(checkout, now, deadline(2000))
    before = stored_state()

    with pytest.raises(PreconditionFailed, match="checkout is at version 1, not 0"):
        publish_version(
            actor=OPERATOR,
            service=checkout,
            document=deadline(1000),
            reason="late",
            now=now,
            expected_number=0,
        )

    assert stored_state() == before


def test_the_expected_number_of_a_service_without_versions_is_zero(
    checkout: Service, now: datetime
) -> None:
    version = publish_version(
        actor=OPERATOR,
        service=checkout,
        document={},
        reason="first",
        now=now,
        expected_number=0,
    )

    assert version.number == 1


@pytest.mark.parametrize(
    "actor",
    [VIEWER, NOBODY, actor_with(Role.OPERATOR, "search-team", name="other")],
    ids=lambda actor: actor.name,
)
def test_who_may_not_publish_stores_nothing(
    checkout: Service, now: datetime, actor: object
) -> None:
    before = stored_state()

    with pytest.raises(Forbidden, match=r"may not do version\.publish"):
        publish_version(
            actor=actor,  # type: ignore[arg-type]
            service=checkout,
            document={},
            reason="why not",
            now=now,
        )

    assert stored_state() == before


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "bell \x07", "nul \x00"])
def test_a_change_without_a_usable_reason_is_refused(
    checkout: Service, now: datetime, reason: str
) -> None:
    before = stored_state()

    with pytest.raises(InvalidInput, match="reason must") as caught:
        publish_version(actor=OPERATOR, service=checkout, document={}, reason=reason, now=now)

    assert caught.value.field == "reason"
    assert stored_state() == before


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"inbound": {"deadline_ms": "2000"}}, "inbound.deadline_ms"),
        ({"inbound": {"deadlin_ms": 2000}}, "inbound.deadlin_ms"),
        ({"inbound": {"deadline_ms": None}}, "inbound.deadline_ms"),
        ([], ""),
        (backoff(base_ms=9000, max_ms=100), "outbound.defaults.retry.backoff"),
    ],
    ids=str,
)
def test_a_bad_document_is_refused_with_its_path_and_nothing_stored(
    checkout: Service, now: datetime, document: object, path: str
) -> None:
    before = stored_state()

    with pytest.raises(InvalidInput) as caught:
        publish_version(
            actor=OPERATOR,
            service=checkout,
            document=document,  # type: ignore[arg-type]
            reason="broken",
            now=now,
        )

    assert caught.value.problems[0].path.startswith(path)
    assert stored_state() == before


def test_rolling_back_publishes_the_older_document_under_a_new_number(
    checkout: Service, now: datetime
) -> None:
    publish_on(checkout, now, deadline(1000))
    publish_on(checkout, now, shed(1))

    version = roll_back_version(
        actor=OPERATOR, service=checkout, to_number=1, reason="v2 sheds too much", now=now
    )

    assert (version.number, version.document) == (3, deadline(1000))
    assert newest().policy["inbound"]["shedding"]["level"] == 0
    with pytest.raises(NotFound, match="has no version 9"):
        roll_back_version(actor=OPERATOR, service=checkout, to_number=9, reason="x", now=now)


def test_one_version_is_published_in_a_bounded_number_of_queries(
    checkout: Service, now: datetime, django_assert_max_num_queries: Callable[..., object]
) -> None:
    publish_on(checkout, now, {})

    with django_assert_max_num_queries(20):  # type: ignore[attr-defined]
        publish_on(checkout, now, deadline(2000))

    publication = latest_publication("prod", "checkout")
    assert publication is not None
    assert PolicyVersion.objects.count() == 2

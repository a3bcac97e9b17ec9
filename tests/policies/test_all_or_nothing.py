from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import InternalError, connection
from psycopg.errors import IdleInTransactionSessionTimeout

from controlplane.access.models import AuditEntry, Team
from controlplane.access.services import audit
from controlplane.access.services.audit import verify_chain
from controlplane.kernel import hints
from controlplane.kernel.errors import Unavailable
from controlplane.policies.models import Override, PolicyVersion, Publication
from controlplane.policies.services import (
    extend_override,
    open_override,
    publish_fleet_default,
    publish_version,
    revert_override,
)
from controlplane.policies.services.overrides import close_expired_overrides
from controlplane.registry.models import Environment, Service
from tests.access.actors import ADMIN, OPERATOR
from tests.policies.builders import deadline, open_on, shed, stored_state
from tests.waiting import HUNG_S

HOUR = timedelta(hours=1)
Change = Callable[[Service, Override, datetime], Any]

CHANGES: dict[str, Change] = {
    "publish a version": lambda service, _, now: publish_version(
        actor=OPERATOR, service=service, document=deadline(2000), reason="x", now=now
    ),
    "publish a fleet default": lambda service, _, now: publish_fleet_default(
        actor=ADMIN,
        environment=service.environment,
        document=deadline(2000),
        reason="x",
        now=now,
    ),
    "open an override": lambda service, _, now: open_override(
        actor=OPERATOR, service=service, patch=shed(1), lasts=HOUR, reason="x", now=now
    ),
    "extend an override": lambda _, override, now: extend_override(
        actor=OPERATOR, override=override, by=HOUR, reason="x", now=now
    ),
    "revert an override": lambda _, override, now: revert_override(
        actor=OPERATOR, override=override, reason="x", now=now
    ),
    "close an ended override": lambda _, override, now: close_expired_overrides(
        actor=ADMIN, now=override.ends_at
    ),
}

PUBLISHING = {name: change for name, change in CHANGES.items() if not name.startswith("close")}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_that_cannot_be_audited_is_not_made(
    checkout: Service, now: datetime, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    override = open_on(checkout, now)
    before = stored_state()

    def failing(**_: object) -> None:
        raise RuntimeError("the audit log does not answer")

    monkeypatch.setattr(audit, "record", failing)

    with pytest.raises(RuntimeError, match="audit log"):
        change(checkout, override, now)

    assert stored_state() == before


@pytest.mark.parametrize("change", PUBLISHING.values(), ids=PUBLISHING.keys())
def test_a_change_that_cannot_be_published_is_not_made(
    checkout: Service, now: datetime, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    override = open_on(checkout, now)
    before = stored_state()

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("the table is full")

    monkeypatch.setattr(Publication.objects, "bulk_create", failing)

    with pytest.raises(RuntimeError, match="table is full"):
        change(checkout, override, now)

    assert stored_state() == before


@pytest.mark.parametrize("change", PUBLISHING.values(), ids=PUBLISHING.keys())
def test_a_change_that_stood_still_with_the_lock_is_not_made_and_may_be_tried_again(
    checkout: Service, now: datetime, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    override = open_on(checkout, now)
    before = stored_state()

    def ended(*_: object, **__: object) -> None:
        raise InternalError("terminating connection") from IdleInTransactionSessionTimeout()

    monkeypatch.setattr(Publication.objects, "bulk_create", ended)

    with pytest.raises(Unavailable, match="nothing was changed"):
        change(checkout, override, now)

    assert stored_state() == before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_writes_exactly_one_audit_entry(
    checkout: Service, now: datetime, change: Change
) -> None:
    override = open_on(checkout, now)
    before = AuditEntry.objects.count()

    change(checkout, override, now)

    assert AuditEntry.objects.count() == before + 1
    assert verify_chain().holds


@pytest.mark.django_db(transaction=True)
def test_a_dead_valkey_does_not_fail_a_committed_change(
    checkout: Service, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(_url: str) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(hints, "_client", unreachable)

    override = open_on(checkout, now)

    assert Override.objects.get() == override
    assert Publication.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_changes_get_growing_sequences_that_hold_all_that_came_before(
    prod: Environment, checkout: Service, team: Team, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "send_hints", lambda channel, messages: True)
    barrier = threading.Barrier(4)

    def change(index: int) -> None:
        try:
            barrier.wait(HUNG_S)
            service = Service.objects.select_related("team", "environment").get(pk=checkout.pk)
            patch = {"inbound": {"features": {f"feature-{index}": {"enabled": False}}}}
            open_on(service, now - timedelta(milliseconds=index), patch)
            publish_version(
                actor=OPERATOR, service=service, document=deadline(1000), reason="x", now=now
            )
        finally:
            connection.close()

    threads = [threading.Thread(target=change, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HUNG_S)

    publications = list(Publication.objects.order_by("sequence"))
    features = [len(row.policy["inbound"]["features"]) for row in publications]
    assert [row.sequence for row in publications] == list(range(1, 9))
    assert features == sorted(features)
    assert features[-1] == 4
    numbers = PolicyVersion.objects.order_by("number").values_list("number", flat=True)
    assert list(numbers) == [1, 2, 3, 4]
    assert verify_chain().holds

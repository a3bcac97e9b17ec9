from __future__ import annotations

import threading
from datetime import datetime

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from controlplane.access.models import AuditEntry, AuditHead
from controlplane.access.services.audit import record, verify_chain
from tests.access.actors import OPERATOR
from tests.waiting import HUNG_S


def write(now: datetime, count: int = 1) -> None:
    for index in range(count):
        record(
            actor=OPERATOR,
            action="override.opened",
            subject=f"override:{index}",
            at=now,
            environment="prod",
            service="checkout",
            reason="why",
            data={"ratio": 0.1, "large": 1e20, "whole": 2.0, "text": "ä", "none": None},
        )


@pytest.mark.django_db
def test_an_entry_says_who_what_why_when_and_for_which_request(now: datetime) -> None:
    write(now)

    entry = AuditEntry.objects.get()
    assert (entry.number, entry.actor, entry.actor_kind) == (1, "oncall", "user")
    assert (entry.action, entry.subject, entry.at) == ("override.opened", "override:0", now)
    assert (entry.environment, entry.service, entry.reason) == ("prod", "checkout", "why")
    assert entry.request_id == "night-42"


@pytest.mark.django_db
def test_a_whole_log_verifies(now: datetime) -> None:
    write(now, 5)

    report = verify_chain()

    assert report.holds
    assert report.entries == 5
    assert report.newest_hash == AuditHead.objects.get().entry_hash
    call_command("verify_audit")


@pytest.mark.django_db
def test_an_empty_log_verifies() -> None:
    assert verify_chain().holds


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actor", "somebody else"),
        ("reason", "another reason"),
        ("data", {"ratio": 0.2}),
        ("at", datetime.fromisoformat("2026-01-01T00:00:00Z")),
    ],
)
def test_a_changed_entry_is_named(now: datetime, field: str, value: object) -> None:
    write(now, 3)
    AuditEntry.objects.filter(number=2).update(**{field: value})

    assert verify_chain().problems == ("entry 2 was changed after it was written",)
    with pytest.raises(CommandError, match="entry 2 was changed"):
        call_command("verify_audit")


@pytest.mark.django_db
def test_a_removed_entry_is_named(now: datetime) -> None:
    write(now, 4)
    AuditEntry.objects.filter(number=2).delete()

    assert verify_chain().problems == (
        "entries 2 to 2 are missing",
        "entry 3 does not follow the entry before it",
    )


@pytest.mark.django_db
def test_a_cut_off_end_is_named(now: datetime) -> None:
    write(now, 4)
    AuditEntry.objects.filter(number__gte=3).delete()

    assert verify_chain().problems == ("entries 3 to 4 are missing",)


@pytest.mark.django_db
def test_an_entry_rolls_back_with_its_change(now: datetime) -> None:
    write(now)

    with transaction.atomic():
        write(now, 2)
        transaction.set_rollback(True)

    assert AuditEntry.objects.count() == 1
    write(now)
    assert verify_chain().holds


@pytest.mark.django_db(transaction=True)
def test_concurrent_writers_cannot_fork_the_chain(now: datetime) -> None:
    barrier = threading.Barrier(4)

    def several() -> None:
        try:
            barrier.wait(HUNG_S)
            write(now, 5)
        finally:
            connection.close()

    threads = [threading.Thread(target=several) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HUNG_S)

    report = verify_chain()
    assert report.problems == ()
    assert report.entries == 20

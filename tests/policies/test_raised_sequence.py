"""After a restored backup: the sequence moves past what instances hold, and all is published."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from controlplane.access.models import AuditEntry
from controlplane.access.services.audit import verify_chain
from controlplane.kernel.errors import Forbidden, InvalidInput, NotFound, TidegateError
from controlplane.policies.models import Publication, SequenceCounter
from controlplane.policies.services import publish_fleet_default
from controlplane.policies.services.sequences import HIGHEST, raise_sequence
from controlplane.registry.models import Environment, Service
from tests.access.actors import ADMIN, OPERATOR
from tests.policies.builders import (
    deadline,
    newest,
    open_on,
    publish_on,
    shed,
    start_on,
    stored_state,
)


@pytest.fixture
def published(checkout: Service, prod: Environment, now: datetime) -> Service:
    publish_fleet_default(
        actor=ADMIN, environment=prod, document=deadline(2500), reason="slow", now=now
    )
    publish_on(checkout, now, shed(1))
    return checkout


def test_what_is_in_force_is_published_again_above_it(published: Service, now: datetime) -> None:
    before = {slug: newest(slug) for slug in ("checkout", "")}
    override = open_on(published, now, shed(2))

    raised = raise_sequence(actor=ADMIN, above=500, reason="restored", now=now)

    after = {slug: newest(slug) for slug in ("checkout", "")}
    assert sorted(publication.sequence for publication in after.values()) == [501, 502]
    assert after[""].policy == before[""].policy
    assert after["checkout"].policy["inbound"]["shedding"]["level"] == 2
    assert after["checkout"].scheduled[0]["reason"] == f"override {override.pk} ends"
    assert (raised.after, raised.services) == (503, 2)


def test_a_canary_is_published_again_above_what_everybody_gets(
    published: Service, now: datetime
) -> None:
    start_on(published, now, ratio=0.25)

    raise_sequence(actor=ADMIN, above=500, reason="restored", now=now)

    canary = Publication.objects.filter(cohort="canary").latest("sequence")
    assert canary.sequence > newest().sequence > 500
    assert canary.ratio == 0.25


def test_a_canary_that_the_backup_does_not_know_is_ended_above_everybody(
    published: Service, now: datetime
) -> None:
    raise_sequence(actor=ADMIN, above=500, reason="restored", now=now)

    over = Publication.objects.get(cohort="canary")
    assert (over.ratio, over.policy) == (0.0, newest().policy)
    assert over.sequence > newest().sequence > 500


def test_a_service_that_the_backup_does_not_know_gets_the_fleet_default_by_its_name(
    published: Service, now: datetime
) -> None:
    raised = raise_sequence(
        actor=ADMIN, above=500, reason="restored", now=now, lost=[("prod", "ledger")]
    )

    everybody = newest("ledger")
    canary = Publication.objects.get(service_slug="ledger", cohort="canary")
    assert everybody.policy == newest("").policy
    assert (everybody.version_number, canary.ratio) == (newest("").version_number, 0.0)
    assert canary.sequence > everybody.sequence > 500
    assert raised.services == 3
    assert AuditEntry.objects.latest("id").data["lost"] == ["prod/ledger"]


def test_a_service_that_it_does_know_keeps_its_policy_though_it_is_named(
    published: Service, now: datetime
) -> None:
    before = newest("checkout")

    raised = raise_sequence(
        actor=ADMIN, above=500, reason="restored", now=now, lost=[("prod", "checkout")] * 2
    )

    assert newest("checkout").policy == before.policy != newest("").policy
    assert raised.services == 2


@pytest.mark.parametrize(
    ("lost", "problem", "error"),
    [
        (("prod", "Ledger!"), "no service can be named 'Ledger!'", InvalidInput),
        (("prod", ""), "no service can be named ''", InvalidInput),
        (("gone", "ledger"), "there is no environment 'gone'", NotFound),
    ],
)
def test_a_name_that_nothing_can_have_is_refused(
    published: Service,
    now: datetime,
    lost: tuple[str, str],
    problem: str,
    error: type[TidegateError],
) -> None:
    before = stored_state()

    with pytest.raises(error, match=problem):
        raise_sequence(actor=ADMIN, above=500, reason="restored", now=now, lost=[lost])

    assert stored_state() == before


def test_a_sequence_that_is_higher_already_stays(published: Service, now: datetime) -> None:
    before = SequenceCounter.objects.get().value

    raised = raise_sequence(actor=ADMIN, above=1, reason="restored", now=now)

    assert raised.before == before
    assert raised.after == before + 3


def test_it_is_audited_and_the_chain_holds(published: Service, now: datetime) -> None:
    raise_sequence(actor=ADMIN, above=500, reason="restored the backup of 02:00", now=now)

    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.reason) == ("sequence.raised", "restored the backup of 02:00")
    assert entry.data["after"] == 503
    assert verify_chain().holds


@pytest.mark.parametrize("above", [-1, HIGHEST + 1])
def test_a_number_that_cannot_be_ours_is_refused(
    published: Service, now: datetime, above: int
) -> None:
    with pytest.raises(InvalidInput, match=f"above must be 0 to {HIGHEST}, not {above}"):
        raise_sequence(actor=ADMIN, above=above, reason="restored", now=now)


def test_only_who_may_publish_for_the_whole_fleet_may_raise_it(
    published: Service, now: datetime
) -> None:
    with pytest.raises(Forbidden, match=r"fleet_default\.publish"):
        raise_sequence(actor=OPERATOR, above=500, reason="restored", now=now)


def test_the_command_says_what_it_did(
    published: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    before = SequenceCounter.objects.get().value

    call_command("raise_sequence", "--above", "500", "--reason", "restored")

    assert capsys.readouterr().out == (
        f"The sequence went from {before} to 503; what is in force was published again for 2 "
        "names.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--above", "-5", "--reason", "x"], "above must be 0 to"),
        (["--above", "5", "--reason", " "], "reason"),
        (["--reason", "x"], "--above"),
        (["--above", "5", "--reason", "x", "--service", "checkout"], "takes environment/service"),
        (["--above", "5", "--reason", "x", "--service", "gone/x"], "no environment 'gone'"),
    ],
    ids=["negative", "no reason", "no number", "no environment", "an unknown environment"],
)
def test_the_command_names_what_is_wrong(
    published: Service, arguments: list[Any], problem: str
) -> None:
    with pytest.raises(CommandError, match=problem):
        call_command("raise_sequence", *arguments)

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection

from controlplane.access.domain.tokens import TokenKind, hash_token, kind_of, new_token
from controlplane.access.models import AuditEntry, ServiceToken
from controlplane.access.selectors import (
    find_token,
    list_service_tokens,
    service_tokens_stamp,
)
from controlplane.access.services.tokens import (
    create_operator_token,
    create_service_token,
    revoke_token,
    rotate_token,
)
from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import Conflict, Forbidden, InvalidInput
from tests.access.actors import ADMIN, OPERATOR
from tests.waiting import HUNG_S


def make(now: datetime, **changes: object) -> tuple[ServiceToken, str]:
    values: dict[str, object] = {
        "actor": ADMIN, "environment": "prod", "service": "checkout", "label": "seed", "now": now,
    }  # fmt: skip
    return create_service_token(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", TokenKind)
def test_a_new_token_says_what_it_is_and_is_long(kind: TokenKind) -> None:
    text = new_token(kind)

    assert kind_of(text) is kind
    assert len(text) >= 36
    assert text != new_token(kind)


@pytest.mark.parametrize("text", ["", "tgs_short", "tgx_" + "a" * 40, "tgs_" + "ä" * 40])
def test_what_cannot_be_a_token_is_not_looked_up(text: str) -> None:
    assert kind_of(text) is None


@pytest.mark.django_db
def test_only_the_hash_of_a_token_is_stored(now: datetime) -> None:
    token, text = make(now)

    row = ServiceToken.objects.values().get()
    assert text not in str(row)
    assert text not in str(AuditEntry.objects.values().get())
    assert row["token_hash"] == hash_token(text)
    assert find_token(text, now=now) == token


@pytest.mark.django_db
def test_a_revoked_or_expired_token_is_not_found(now: datetime) -> None:
    token, text = make(now)
    _, short = make(now, expires_at=now + timedelta(minutes=1))

    assert find_token(short, now=now + timedelta(minutes=1)) is None
    revoke_token(actor=ADMIN, token=token, now=now)
    assert find_token(text, now=now) is None
    assert [row.expires_at for row in list_service_tokens()] == [now + timedelta(minutes=1)]


@pytest.mark.django_db
def test_the_stamp_changes_with_every_token_made_or_revoked(now: datetime) -> None:
    stamps = [service_tokens_stamp()]
    token, _ = make(now)
    stamps.append(service_tokens_stamp())
    revoke_token(actor=ADMIN, token=token, now=now)
    stamps.append(service_tokens_stamp())

    assert len(set(stamps)) == 3


@pytest.mark.django_db
def test_revoking_twice_is_a_conflict_and_audited_once(now: datetime) -> None:
    token, _ = make(now)
    revoke_token(actor=ADMIN, token=token, now=now)

    with pytest.raises(Conflict):
        revoke_token(actor=ADMIN, token=token, now=now)

    actions = list(AuditEntry.objects.order_by("number").values_list("action", flat=True))
    assert actions == ["token.created", "token.revoked"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"environment": ""}, "environment"),
        ({"service": "x" * 64}, "service"),
        ({"service": "che ckout"}, "service"),
        ({"service": "Checkout"}, "service"),
        ({"environment": "pr\u00f6d"}, "environment"),
        ({"label": "  "}, "label"),
        ({"label": "two\nlines"}, "label"),
        ({"label": "x" * 81}, "label"),
    ],
)
def test_a_bad_token_is_refused_and_nothing_stored(
    now: datetime, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        make(now, **changes)

    assert caught.value.field == field
    assert ServiceToken.objects.count() == 0
    assert AuditEntry.objects.count() == 0


@pytest.mark.django_db
def test_an_expiry_in_the_past_is_refused(now: datetime) -> None:
    with pytest.raises(InvalidInput, match="in the future"):
        make(now, expires_at=now)


@pytest.mark.django_db
def test_only_an_admin_may_make_or_revoke_tokens(now: datetime) -> None:
    user = User.objects.create_user("oncall")
    token, _ = make(now)

    with pytest.raises(Forbidden):
        make(now, actor=OPERATOR)
    with pytest.raises(Forbidden):
        create_operator_token(actor=OPERATOR, user=user, label="ci", now=now)
    with pytest.raises(Forbidden):
        revoke_token(actor=OPERATOR, token=token, now=now)


@pytest.mark.django_db
def test_the_database_refuses_a_token_of_nobody(now: datetime) -> None:
    with pytest.raises(IntegrityError, match="a_token_belongs_to_a_service_or_a_user"):
        ServiceToken.objects.create(
            kind="operator", token_hash="h", label="x", created_at=now, created_by="x"
        )


@pytest.mark.django_db
def test_a_rotated_token_and_its_successor_work_side_by_side_until_the_grace_ends(
    now: datetime,
) -> None:
    old, old_text = make(now)

    successor, text = rotate_token(actor=ADMIN, token=old, now=now, grace=timedelta(hours=1))

    just_before = now + timedelta(minutes=59)
    assert find_token(old_text, now=just_before) == old
    assert find_token(text, now=just_before) == successor
    assert find_token(old_text, now=now + timedelta(hours=1)) is None
    assert find_token(text, now=now + timedelta(days=999)) == successor
    assert (successor.environment, successor.service, successor.label) == (
        "prod", "checkout", "seed",
    )  # fmt: skip
    assert (old.successor, old.expires_at) == (successor, now + timedelta(hours=1))


@pytest.mark.django_db
def test_delivery_is_told_of_both_tokens(now: datetime) -> None:
    old, _ = make(now)
    before = service_tokens_stamp()

    rotate_token(actor=ADMIN, token=old, now=now, grace=timedelta(hours=1))

    assert service_tokens_stamp() != before
    assert [row.expires_at for row in list_service_tokens()] == [now + timedelta(hours=1), None]


@pytest.mark.django_db
def test_a_successor_lasts_as_long_as_the_old_token_was_made_for(now: datetime) -> None:
    old, _ = make(now, expires_at=now + timedelta(days=30))
    later = now + timedelta(days=29, hours=23)

    successor, _ = rotate_token(actor=ADMIN, token=old, now=later)

    assert old.expires_at == now + timedelta(days=30)  # earlier than the grace would end
    assert successor.expires_at == later + timedelta(days=30)


@pytest.mark.django_db
def test_an_operator_token_keeps_its_user_when_it_is_rotated(now: datetime) -> None:
    user = User.objects.create_user("oncall")
    old, _ = create_operator_token(actor=ADMIN, user=user, label="ci", now=now)

    successor, text = rotate_token(actor=ADMIN, token=old, now=now)

    assert (successor.user, kind_of(text)) == (user, TokenKind.OPERATOR)


@pytest.mark.django_db
def test_a_rotation_is_audited_without_any_text(now: datetime) -> None:
    old, _ = make(now)
    successor, text = rotate_token(actor=ADMIN, token=old, now=now)

    entries = list(AuditEntry.objects.order_by("number"))
    assert [(entry.action, entry.subject) for entry in entries] == [
        ("token.created", f"token:{old.pk}"),
        ("token.created", f"token:{successor.pk}"),
        ("token.rotated", f"token:{old.pk}"),
    ]
    assert entries[2].data["successor"] == successor.pk
    assert text not in str([entry.data for entry in entries])


@pytest.mark.django_db
def test_a_token_is_rotated_once(now: datetime) -> None:
    old, _ = make(now)
    stale = ServiceToken.objects.get(pk=old.pk)
    successor, _ = rotate_token(actor=ADMIN, token=old, now=now)

    with pytest.raises(Conflict, match=f"rotated before: token {successor.pk}"):
        rotate_token(actor=ADMIN, token=stale, now=now)

    assert ServiceToken.objects.count() == 2


@pytest.mark.django_db
def test_a_token_that_has_ended_is_not_rotated(now: datetime) -> None:
    revoked, _ = make(now)
    revoke_token(actor=ADMIN, token=revoked, now=now)
    expired, _ = make(now, expires_at=now + timedelta(minutes=1))

    with pytest.raises(Conflict, match="was revoked"):
        rotate_token(actor=ADMIN, token=revoked, now=now)
    with pytest.raises(Conflict, match="has expired"):
        rotate_token(actor=ADMIN, token=expired, now=now + timedelta(minutes=1))
    assert ServiceToken.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize("grace", [timedelta(seconds=59), timedelta(days=30, seconds=1)])
def test_a_grace_out_of_bounds_is_refused(now: datetime, grace: timedelta) -> None:
    old, _ = make(now)

    with pytest.raises(InvalidInput, match="1 minute to 30 days"):
        rotate_token(actor=ADMIN, token=old, now=now, grace=grace)

    assert ServiceToken.objects.get().expires_at is None


@pytest.mark.django_db(transaction=True)
def test_of_two_rotations_at_once_one_wins(now: datetime) -> None:
    old, _ = make(now)
    together = threading.Barrier(2)
    outcomes: list[str] = []

    def rotate() -> None:
        mine = ServiceToken.objects.get(pk=old.pk)
        try:
            together.wait(HUNG_S)
            rotate_token(actor=ADMIN, token=mine, now=now)
            outcomes.append("rotated")
        except Conflict:
            outcomes.append("conflict")
        finally:
            connection.close()

    threads = [threading.Thread(target=rotate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HUNG_S)

    assert sorted(outcomes) == ["conflict", "rotated"]
    assert ServiceToken.objects.count() == 2


@pytest.mark.django_db
def test_the_database_refuses_a_rotated_token_that_never_ends(now: datetime) -> None:
    old, _ = make(now)
    successor, _ = make(now)

    with pytest.raises(IntegrityError, match="a_rotated_token_expires"):
        ServiceToken.objects.filter(pk=old.pk).update(successor=successor)


@pytest.mark.django_db
def test_the_command_prints_the_new_text_alone_and_names_the_old_token(now: datetime) -> None:
    old, _ = make(utc_now())
    out, err = StringIO(), StringIO()

    call_command("rotate_token", "prod", "checkout", "--grace-s", "3600", stdout=out, stderr=err)

    token = find_token(out.getvalue().strip(), now=utc_now())
    old.refresh_from_db()
    assert token == old.successor
    assert err.getvalue().startswith(f"token {old.pk} (seed) works until ")


@pytest.mark.django_db
def test_the_command_asks_which_of_several_tokens_is_meant() -> None:
    first, _ = make(utc_now())
    second, _ = make(utc_now(), label="canary")

    with pytest.raises(CommandError, match=rf"--id: {first.pk} \(seed\), {second.pk} \(canary\)"):
        call_command("rotate_token", "prod", "checkout")
    call_command("rotate_token", "prod", "checkout", "--id", str(second.pk), stdout=StringIO())

    second.refresh_from_db()
    assert second.successor is not None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prod", "nobody"], "no live token"),
        (["prod", "checkout", "--id", "999"], "no service token 999"),
        (["prod", "payments", "--id", "{id}"], "is for checkout in prod"),
        (["prod", "checkout", "--grace-s", "1"], "grace must be"),
        (["prod", "checkout", "--grace-s", "nan"], "must be a number"),
    ],
)
def test_the_command_says_what_it_cannot_do(arguments: list[str], message: str) -> None:
    token, _ = make(utc_now())

    with pytest.raises(CommandError, match=message):
        call_command("rotate_token", *(each.format(id=token.pk) for each in arguments))

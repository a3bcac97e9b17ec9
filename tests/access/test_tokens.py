from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError

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
)
from controlplane.kernel.errors import Conflict, Forbidden, InvalidInput
from tests.access.actors import ADMIN, OPERATOR


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

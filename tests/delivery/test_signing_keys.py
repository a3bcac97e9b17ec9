"""Signing keys over their life: made once, announced, used, retired, withdrawn."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection

from controlplane.access.models import AuditEntry
from controlplane.delivery.domain.jws import PrivateKey, canonical_jwk, verify
from controlplane.delivery.domain.sealing import CannotOpen, Seal
from controlplane.delivery.models import SigningKey
from controlplane.delivery.selectors import (
    list_announced_keys,
    list_signing_keys,
    signing_keys_stamp,
)
from controlplane.delivery.services.signing_keys import (
    ensure_signing_key,
    reseal_signing_keys,
    rotate_signing_key,
    withdraw_signing_key,
)
from controlplane.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.access.actors import ADMIN, OPERATOR
from tests.waiting import HUNG_S

LEAD = timedelta(minutes=10)
SECRET = "s" * 64


def rotate(now: datetime, **changes: Any) -> SigningKey:
    return rotate_signing_key(**{"actor": ADMIN, "reason": "yearly", "now": now, **changes})


def withdraw(kid: str, now: datetime) -> Any:
    return withdraw_signing_key(actor=ADMIN, kid=kid, reason="laptop stolen", now=now)


def endorsers_of(key: SigningKey) -> list[str]:
    """The kids whose endorsement of `key` really verifies."""
    known = {row.kid: row.x for row in SigningKey.objects.all()}
    return [
        verify(entry["signature"], canonical_jwk(key.x), {entry["kid"]: known[entry["kid"]]})
        for entry in key.endorsements
    ]


@pytest.mark.django_db
def test_the_first_key_is_made_once_and_signs_at_once(now: datetime) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    again = ensure_signing_key(actor=ADMIN, now=now + LEAD)

    assert (again.pk, first.active_from, first.endorsements) == (first.pk, now, [])
    assert list(AuditEntry.objects.values_list("action", flat=True)) == ["signing_key.created"]


@pytest.mark.django_db(transaction=True)
def test_processes_that_start_together_make_one_key(now: datetime) -> None:
    together = threading.Barrier(4)
    made: list[str] = []

    def start() -> None:
        try:
            together.wait(HUNG_S)
            made.append(ensure_signing_key(actor=ADMIN, now=now).kid)
        finally:
            connection.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HUNG_S)

    assert len(made) == 4
    assert set(made) == {SigningKey.objects.get().kid}
    assert AuditEntry.objects.count() == 1


@pytest.mark.django_db
def test_the_private_part_is_stored_sealed_only(now: datetime, settings: Any) -> None:
    key = ensure_signing_key(actor=ADMIN, now=now)

    opened = Seal(settings.TIDEGATE_SIGNING_SECRET).open(key.sealed_private, key.kid)
    assert opened.x == key.x
    row = str(SigningKey.objects.values().get())
    assert opened.seed.hex() not in row
    assert opened.seed.hex() not in str(AuditEntry.objects.values().get())
    assert len(key.sealed_private) <= 200


def test_a_sealed_key_opens_with_its_own_secret_and_name_only() -> None:
    key, other = PrivateKey.generate(), PrivateKey.generate()
    sealed = Seal(SECRET).close(key)

    assert Seal(SECRET).open(sealed, key.kid).seed == key.seed
    assert Seal(SECRET).close(key) != sealed
    for secret, text, kid in [
        ("t" * 64, sealed, key.kid),
        (SECRET, sealed, other.kid),
        (SECRET, sealed[:-2] + "AA", key.kid),
        (SECRET, sealed.replace("v1.", "v2."), key.kid),
        (SECRET, "", key.kid),
        (SECRET, "v1.", key.kid),
    ]:
        with pytest.raises(CannotOpen):
            Seal(secret).open(text, kid)


@pytest.mark.django_db
def test_a_rotation_announces_a_key_that_signs_after_the_lead(now: datetime) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)

    second = rotate(now, lead=LEAD)

    first.refresh_from_db()
    assert second.active_from == first.retired_at == now + LEAD
    assert endorsers_of(second) == [first.kid]
    entry = AuditEntry.objects.get(action="signing_key.rotated")
    assert (entry.reason, entry.data["replaces"]) == ("yearly", first.kid)


@pytest.mark.django_db
def test_every_older_key_endorses_a_younger_one(now: datetime) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    second = rotate(now)

    third = rotate(now + timedelta(days=1))

    assert endorsers_of(third) == [first.kid, second.kid]


@pytest.mark.django_db
def test_after_many_rotations_the_newest_keys_are_named_and_endorse(now: datetime) -> None:
    ensure_signing_key(actor=ADMIN, now=now)
    for day in range(1, 70):
        rotate(now + timedelta(days=day))

    announced = list_announced_keys()

    assert len(announced) == 64
    endorsers = [endorsement.kid for endorsement in announced[-1].endorsements]
    assert endorsers == [key.kid for key in announced[-17:-1]]


@pytest.mark.django_db
def test_only_one_key_can_be_announced_at_a_time(now: datetime) -> None:
    ensure_signing_key(actor=ADMIN, now=now)
    second = rotate(now)

    with pytest.raises(Conflict, match=f"{second.kid} is announced already"):
        rotate(now + timedelta(minutes=1))

    assert SigningKey.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"lead": timedelta(seconds=119)}, "lead"),
        ({"lead": timedelta(days=31)}, "lead"),
        ({"reason": "  "}, "reason"),
    ],
)
def test_a_bad_rotation_is_refused_and_changes_nothing(
    now: datetime, changes: dict[str, Any], field: str
) -> None:
    ensure_signing_key(actor=ADMIN, now=now)

    with pytest.raises(InvalidInput) as caught:
        rotate(now, **changes)

    assert caught.value.field == field
    assert SigningKey.objects.get().retired_at is None


@pytest.mark.django_db
def test_without_a_key_there_is_nothing_to_rotate(now: datetime) -> None:
    with pytest.raises(Conflict, match="no signing key yet"):
        rotate(now)


@pytest.mark.django_db
def test_a_key_that_nobody_could_endorse_is_not_announced(now: datetime, settings: Any) -> None:
    ensure_signing_key(actor=ADMIN, now=now)
    settings.TIDEGATE_SIGNING_SECRET = SECRET

    with pytest.raises(Conflict, match="TIDEGATE_SIGNING_SECRET_FILE"):
        rotate(now)


@pytest.mark.django_db
def test_a_withdrawn_active_key_is_replaced_at_once(now: datetime) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    later = now + timedelta(days=1)

    done = withdraw(first.kid, later)

    assert (done.withdrawn.withdrawn_at, done.withdrawn.sealed_private) == (later, "")
    assert (done.active.active_from, done.endorsed_by) == (later, ())
    assert "Clients that pinned only" in done.consequence
    assert done.active.kid in done.consequence


@pytest.mark.django_db
def test_a_retired_key_endorses_the_replacement_of_a_withdrawn_one(now: datetime) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    second = rotate(now)

    done = withdraw(second.kid, now + timedelta(days=1))

    assert endorsers_of(done.active) == [first.kid]
    assert done.endorsed_by == (first.kid,)
    assert f"pinned {first.kid} go on" in done.consequence


@pytest.mark.django_db
def test_the_announced_key_takes_over_when_the_active_one_is_withdrawn(now: datetime) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    second = rotate(now)
    soon = now + timedelta(minutes=1)

    done = withdraw(first.kid, soon)

    assert (done.active.kid, done.active.active_from) == (second.kid, soon)
    assert done.endorsed_by == ()  # only the withdrawn one had endorsed it
    assert SigningKey.objects.count() == 2


@pytest.mark.django_db
def test_withdrawing_an_announced_key_lets_the_active_one_go_on(now: datetime) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    second = rotate(now)

    done = withdraw(second.kid, now + timedelta(minutes=1))

    first.refresh_from_db()
    assert (done.active.kid, first.retired_at) == (first.kid, None)
    assert rotate(now + timedelta(minutes=2)).kid not in (first.kid, second.kid)


@pytest.mark.django_db
def test_withdrawing_a_retired_key_leaves_the_active_one_alone(now: datetime) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    second = rotate(now)
    third = rotate(now + timedelta(days=1))

    done = withdraw(first.kid, now + timedelta(days=2))

    third.refresh_from_db()
    assert (done.active.kid, done.endorsed_by) == (third.kid, (second.kid,))
    assert third.active_from == now + timedelta(days=1) + LEAD


@pytest.mark.django_db
def test_withdrawing_twice_or_an_unknown_key_is_refused(now: datetime) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    withdraw(first.kid, now)

    with pytest.raises(Conflict, match="withdrawn before"):
        withdraw(first.kid, now)
    with pytest.raises(NotFound):
        withdraw("unknown", now)


@pytest.mark.django_db
def test_keys_are_sealed_with_a_new_secret_and_stay_the_same(now: datetime, settings: Any) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    rotate(now)
    old_secret, settings.TIDEGATE_SIGNING_SECRET = settings.TIDEGATE_SIGNING_SECRET, SECRET
    before = list_announced_keys()

    counts = [
        reseal_signing_keys(actor=ADMIN, old_secret=old_secret, reason="leaked", now=now)
        for _ in range(2)
    ]

    after = list_announced_keys()
    assert counts == [2, 0]
    assert [(key.kid, key.endorsements) for key in after] == [
        (key.kid, key.endorsements) for key in before
    ]
    assert [Seal(SECRET).open(key.sealed, key.kid).x for key in after] == [key.x for key in before]
    assert AuditEntry.objects.filter(action="signing_key.resealed", reason="leaked").count() == 2
    assert first.kid == after[0].kid


@pytest.mark.django_db
def test_a_secret_that_opens_nothing_reseals_nothing(now: datetime, settings: Any) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    settings.TIDEGATE_SIGNING_SECRET = SECRET

    with pytest.raises(InvalidInput, match="opens not all keys"):
        reseal_signing_keys(actor=ADMIN, old_secret="w" * 64, reason="leaked", now=now)

    assert SigningKey.objects.get().sealed_private == first.sealed_private


@pytest.mark.django_db
def test_only_an_admin_may_touch_signing_keys(now: datetime) -> None:
    with pytest.raises(Forbidden):
        ensure_signing_key(actor=OPERATOR, now=now)
    first = ensure_signing_key(actor=ADMIN, now=now)

    with pytest.raises(Forbidden):
        rotate(now, actor=OPERATOR)
    with pytest.raises(Forbidden):
        withdraw_signing_key(actor=OPERATOR, kid=first.kid, reason="x", now=now)
    with pytest.raises(Forbidden):
        reseal_signing_keys(actor=OPERATOR, old_secret=SECRET, reason="x", now=now)


@pytest.mark.django_db
def test_the_stamp_changes_with_every_key_made_sealed_anew_or_withdrawn(
    now: datetime, settings: Any
) -> None:
    stamps = [signing_keys_stamp()]
    first = ensure_signing_key(actor=ADMIN, now=now)
    stamps.append(signing_keys_stamp())
    rotate(now)
    stamps.append(signing_keys_stamp())
    old_secret, settings.TIDEGATE_SIGNING_SECRET = settings.TIDEGATE_SIGNING_SECRET, SECRET
    reseal_signing_keys(actor=ADMIN, old_secret=old_secret, reason="leaked", now=now)
    stamps.append(signing_keys_stamp())
    withdraw(first.kid, now)
    stamps.append(signing_keys_stamp())

    assert len(set(stamps)) == 5
    assert list_signing_keys(now=now)[0].kid == first.kid


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"sealed_private": ""}, "only_a_withdrawn_signing_key_has_no_private_part"),
        (
            {"withdrawn_at": datetime(2026, 11, 3, tzinfo=UTC)},
            "only_a_withdrawn_signing_key_has_no_private_part",
        ),
        (
            {"retired_at": datetime(2026, 11, 1, tzinfo=UTC)},
            "a_signing_key_retires_after_it_was_active",
        ),
    ],
)
def test_the_database_refuses_a_key_in_an_impossible_state(
    now: datetime, values: dict[str, Any], constraint: str
) -> None:
    good = {"kid": "k", "x": "x", "sealed_private": "v1.x", "created_at": now, "active_from": now}

    with pytest.raises(IntegrityError, match=constraint):
        SigningKey.objects.create(**{**good, **values})

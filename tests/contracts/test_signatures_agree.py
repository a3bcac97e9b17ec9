"""What the control plane signs and lists, as the real SDK with pinned keys judges it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings

from controlplane.delivery.domain.keyring import active_key, keys_document
from controlplane.delivery.domain.sealing import Seal
from controlplane.delivery.models import SigningKey
from controlplane.delivery.selectors import list_announced_keys
from controlplane.delivery.services.signing_keys import (
    ensure_signing_key,
    rotate_signing_key,
    withdraw_signing_key,
)
from tests.access.actors import ADMIN
from tests.delivery.builders import snapshot
from tidegate.key_ring import KeyRing
from tidegate.signatures import SignatureRejected

pytestmark = pytest.mark.django_db

BODY = snapshot(7).steps[0].body
DAY = timedelta(days=1)


def rotate(now: datetime) -> SigningKey:
    return rotate_signing_key(actor=ADMIN, reason="yearly", now=now)


def withdraw(key: SigningKey, now: datetime) -> None:
    withdraw_signing_key(actor=ADMIN, kid=key.kid, reason="stolen", now=now)


def signed(now: datetime) -> tuple[str, dict[str, Any]]:
    """The signature of BODY as a node makes it, and the list it answers with, as JSON."""
    keys = list_announced_keys()
    active = active_key(keys, now.timestamp())
    assert active is not None
    private = Seal(settings.TIDEGATE_SIGNING_SECRET).open(active.sealed, active.kid)
    document = json.loads(json.dumps(keys_document(keys, now.timestamp())))
    return private.sign(BODY).decode(), document


def accepts(ring: KeyRing, now: datetime) -> bool:
    signature, document = signed(now)
    ring.learn(document)
    try:
        ring.verify(BODY, signature)
    except SignatureRejected:
        return False
    return True


def test_clients_with_the_first_key_pinned_in_either_form_follow_every_rotation(
    now: datetime,
) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    by_thumbprint = KeyRing([first.kid])
    by_jwk = KeyRing([{"kty": "OKP", "crv": "Ed25519", "x": first.x}])

    for days in range(1, 25):
        assert accepts(by_thumbprint, now + (days - 0.5) * DAY)
        assert accepts(by_jwk, now + (days - 0.5) * DAY)
        rotate(now + days * DAY)
        assert accepts(by_thumbprint, now + days * DAY)  # announced, not in use yet
        assert accepts(by_jwk, now + days * DAY)

    assert accepts(by_thumbprint, now + 24.5 * DAY)
    assert accepts(by_jwk, now + 24.5 * DAY)
    assert len(by_thumbprint.adopted) == len(by_jwk.adopted) == 24


def test_a_client_that_was_away_for_many_rotations_finds_its_way_along_the_chain(
    now: datetime,
) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    for days in range(1, 40):
        rotate(now + days * DAY)

    assert accepts(KeyRing([first.kid]), now + 41 * DAY)


def test_after_a_withdrawal_only_pins_of_the_withdrawn_key_lead_nowhere(now: datetime) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    second = rotate(now + DAY)
    of_first, of_second = KeyRing([first.kid]), KeyRing([second.kid])
    assert accepts(of_first, now + 2 * DAY)
    assert accepts(of_second, now + 2 * DAY)

    withdraw(second, now + 3 * DAY)

    assert accepts(of_first, now + 3 * DAY)
    assert not accepts(of_second, now + 3 * DAY)
    assert not of_first.knows(second.kid)


def test_a_changed_body_or_the_signature_of_another_is_refused(now: datetime) -> None:
    first = ensure_signing_key(actor=ADMIN, now=now)
    ring = KeyRing([first.kid])
    signature, document = signed(now)
    ring.learn(document)

    for body in (BODY + b" ", BODY.replace(b"checkout", b"payments")):
        with pytest.raises(SignatureRejected):
            ring.verify(body, signature)
    ring.verify(BODY, signature)

"""Signing keys: made once, rotated without anybody noticing, withdrawn at once when compromised."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction

from controlplane.access.domain.actors import Actor
from controlplane.access.services import audit
from controlplane.delivery.domain.jws import PrivateKey
from controlplane.delivery.domain.sealing import CannotOpen, Seal
from controlplane.delivery.models import SigningKey
from controlplane.kernel.channels import Channel
from controlplane.kernel.errors import Conflict, InvalidInput, NotFound
from controlplane.kernel.hints import hint_after_commit
from controlplane.policies.services.reasons import checked_reason

DEFAULT_LEAD = timedelta(minutes=10)
# Longer than the minute for which `/config/v1/keys` may be kept, plus a node's look for changes.
MIN_LEAD = timedelta(minutes=2)
MAX_LEAD = timedelta(days=30)
MAX_ENDORSEMENTS = 16  # the newest; clients read no more, and follow chains


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What a withdrawal did: `active` signs from now on, endorsed by `endorsed_by` (kids)."""

    withdrawn: SigningKey
    active: SigningKey
    endorsed_by: tuple[str, ...]

    @property
    def consequence(self) -> str:
        """A sentence for the operator: which clients have to be touched."""
        repin = (
            f"Clients that pinned only {self.withdrawn.kid} refuse every policy from now on, and "
            f"keep the one they have, until they are re-pinned with {self.active.kid}."
        )
        if self.endorsed_by:
            others = " or ".join(self.endorsed_by)
            return f"{repin} Clients that pinned {others} go on by themselves."
        return repin


def ensure_signing_key(*, actor: Actor, now: datetime) -> SigningKey:
    """Return the newest signing key, making the first one when there is none.

    Safe to call from every process at once: one makes the key, the others return it. A key that
    cannot be opened with this process's secret counts, or a wrong secret would replace it.

    Raises:
        Forbidden: there is none, and the actor may not manage signing keys.
    """
    newest = _newest()
    if newest is not None:
        return newest
    actor.require("signing_key.manage")
    try:
        with transaction.atomic():
            key = _make(PrivateKey.generate(), endorsers=[], active_from=now, now=now)
            _record(actor, "signing_key.created", key, "the first signing key", now)
    except IntegrityError:
        # one_newest_signing_key: another process was first.
        return SigningKey.objects.get(retired_at=None, withdrawn_at=None)
    return key


def rotate_signing_key(
    *, actor: Actor, reason: str, now: datetime, lead: timedelta = DEFAULT_LEAD
) -> SigningKey:
    """Announce a new key at once, and sign with it from `now + lead` on; return it.

    The older keys that were not withdrawn endorse it, so whoever pinned any of them trusts it.

    Args:
        lead: 2 minutes to 30 days, so that every node and client knows the key before it signs.

    Raises:
        Forbidden: the actor may not manage signing keys.
        InvalidInput: a bad lead or reason.
        Conflict: there is no key yet, one is announced already, or no key can endorse.
    """
    actor.require("signing_key.manage")
    why = checked_reason(reason)
    if not MIN_LEAD <= lead <= MAX_LEAD:
        raise InvalidInput("lead must be 2 minutes to 30 days", field="lead")
    with transaction.atomic():
        keys = _locked_keys()
        newest = next((key for key in keys if key.retired_at is None), None)
        if newest is None:
            raise Conflict("there is no signing key yet; the first node that starts makes one")
        if newest.active_from > now:
            raise Conflict(
                f"{newest.kid} is announced already and signs from "
                f"{newest.active_from:%Y-%m-%d %H:%M:%S} UTC on; wait for that, or withdraw it"
            )
        endorsers = _opened(keys)
        if not endorsers:
            raise Conflict(
                "no present key opens with the secret in TIDEGATE_SIGNING_SECRET_FILE, so none "
                "could endorse a new one; bring the secret back, or withdraw the present key"
            )
        active_from = now + lead
        SigningKey.objects.filter(pk=newest.pk).update(retired_at=active_from)
        key = _make(PrivateKey.generate(), endorsers=endorsers, active_from=active_from, now=now)
        _record(actor, "signing_key.rotated", key, why, now, replaces=newest.kid)
    return key


def withdraw_signing_key(*, actor: Actor, kid: str, reason: str, now: datetime) -> Withdrawal:
    """Stop trusting a compromised key now: no node signs with it, no client is told of it.

    When it was the active key, the announced one takes over now, or else a new one that is made
    here. Its private part is erased.

    Raises:
        Forbidden: the actor may not manage signing keys.
        InvalidInput: a bad reason.
        NotFound: there is no such key.
        Conflict: it was withdrawn before.
    """
    actor.require("signing_key.manage")
    why = checked_reason(reason)
    with transaction.atomic():
        keys = _locked_keys()
        withdrawn = SigningKey.objects.filter(kid=kid).first()
        if withdrawn is None:
            raise NotFound(f"there is no signing key {kid!r}", field="kid")
        if withdrawn.withdrawn_at is not None:
            raise Conflict(f"{kid} was withdrawn before")
        left = [key for key in keys if key.pk != withdrawn.pk]
        SigningKey.objects.filter(pk=withdrawn.pk).update(withdrawn_at=now, sealed_private="")
        active = _active_after(withdrawn, left, now)
        _record(actor, "signing_key.withdrawn", withdrawn, why, now, active=active.kid)
        withdrawn.refresh_from_db()
    known = {key.kid for key in left}
    endorsed_by = tuple(entry["kid"] for entry in active.endorsements if entry["kid"] in known)
    return Withdrawal(withdrawn, active, endorsed_by)


def reseal_signing_keys(*, actor: Actor, old_secret: str, reason: str, now: datetime) -> int:
    """Seal every private key with the present secret instead of `old_secret`; return how many.

    The keys stay the same, so no client notices. Nodes that run hold their keys open; each opens
    them with the new secret when it is next started with it. Keys that are sealed with the present
    secret already are left alone, so that it can be repeated.

    Raises:
        Forbidden: the actor may not manage signing keys.
        InvalidInput: a bad reason, or neither secret opens one of the keys; nothing was changed.
    """
    actor.require("signing_key.manage")
    why = checked_reason(reason)
    present, old = _seal(), Seal(old_secret)
    with transaction.atomic():
        closed = [key for key in _locked_keys() if not _opens(present, key)]
        try:
            resealed = [(key, old.open(key.sealed_private, key.kid)) for key in closed]
        except CannotOpen as problem:
            raise InvalidInput(f"the old secret opens not all keys: {problem}") from None
        for key, private in resealed:
            SigningKey.objects.filter(pk=key.pk).update(sealed_private=present.close(private))
            _record(actor, "signing_key.resealed", key, why, now)
    return len(resealed)


def _active_after(withdrawn: SigningKey, left: list[SigningKey], now: datetime) -> SigningKey:
    """Return the key that signs from now on, changing what the withdrawal makes necessary."""
    for key in left:
        if key.active_from <= now and (key.retired_at is None or key.retired_at > now):
            if withdrawn.active_from > now:
                # The withdrawn one had only been announced: the active one retires for no one.
                SigningKey.objects.filter(pk=key.pk).update(retired_at=None)
                key.retired_at = None
            return key
    for key in left:
        if key.active_from > now:
            SigningKey.objects.filter(pk=key.pk).update(active_from=now)
            key.active_from = now
            return key
    return _make(PrivateKey.generate(), endorsers=_opened(left), active_from=now, now=now)


def _make(
    private: PrivateKey, *, endorsers: list[PrivateKey], active_from: datetime, now: datetime
) -> SigningKey:
    return SigningKey.objects.create(
        kid=private.kid,
        x=private.x,
        sealed_private=_seal().close(private),
        endorsements=[
            {"kid": endorser.kid, "signature": endorser.endorse(private.x)}
            for endorser in endorsers[-MAX_ENDORSEMENTS:]
        ],
        created_at=now,
        active_from=active_from,
    )


def _locked_keys() -> list[SigningKey]:
    """Return every key that was not withdrawn, oldest first, locked until the transaction ends."""
    return list(SigningKey.objects.select_for_update().filter(withdrawn_at=None).order_by("pk"))


def _newest() -> SigningKey | None:
    return SigningKey.objects.filter(retired_at=None, withdrawn_at=None).first()


def _opened(keys: list[SigningKey]) -> list[PrivateKey]:
    """Return the private keys of those that open with our secret."""
    seal = _seal()
    opened: list[PrivateKey] = []
    for key in keys:
        try:
            opened.append(seal.open(key.sealed_private, key.kid))
        except CannotOpen:
            continue  # such a key cannot endorse; that none can is refused by who needs one
    return opened


def _opens(seal: Seal, key: SigningKey) -> bool:
    try:
        seal.open(key.sealed_private, key.kid)
    except CannotOpen:
        return False
    return True


def _seal() -> Seal:
    return Seal(settings.TIDEGATE_SIGNING_SECRET)


def _record(
    actor: Actor, action: str, key: SigningKey, reason: str, now: datetime, **data: str
) -> None:
    audit.record(
        actor=actor,
        action=action,
        subject=f"signing_key:{key.kid}",
        at=now,
        reason=reason,
        data={"active_from": key.active_from.isoformat(), **data},
    )
    hint_after_commit(Channel.SIGNING_KEYS, [{"kid": key.kid}])

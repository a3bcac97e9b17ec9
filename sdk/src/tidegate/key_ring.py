"""The keys this process believes: those pinned in its code, and those that they vouch for.

An unknown key is adopted only when a believed one endorsed it, and only as long as the control
plane lists it: one that was withdrawn disappears from the list, and is believed no more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from tidegate.errors import PolicyRejected, VerificationUnavailable
from tidegate.signatures import (
    PublicKey,
    Signature,
    SignatureRejected,
    canonical_jwk,
    is_thumbprint,
    key_of_jwk,
    parse_signature,
)

log = logging.getLogger("tidegate")

PinnedKey = str | Mapping[str, object]

MAX_LISTED_KEYS = 256
MAX_ENDORSEMENTS = 16

Listed = tuple[PublicKey, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Beliefs:
    """The keys believed at one moment; replaced whole, for whoever looks from another thread.

    `pinned` holds None for a key of which only the thumbprint is known; `entries` are what the
    list said of the keys believed.
    """

    pinned: Mapping[str, PublicKey | None]
    adopted: Mapping[str, PublicKey]
    entries: Mapping[str, Mapping[str, object]]

    def key(self, kid: str) -> PublicKey | None:
        """The key of this name; None when it is not believed, or not at hand."""
        return self.pinned.get(kid) or self.adopted.get(kid)


class KeyRing:
    """Verifies bodies, and learns keys from the control plane's list.

    Args:
        pinned: JWKs, or thumbprints of keys that the list will bring.

    Raises:
        VerificationUnavailable: `cryptography` is not installed.
        ValueError: names the pinned key that is none.
    """

    def __init__(self, pinned: Iterable[PinnedKey]) -> None:
        if find_spec("cryptography") is None:
            raise VerificationUnavailable
        if isinstance(pinned, str | Mapping):
            raise ValueError("pinned_keys: expected a list, even of one key")
        keys: dict[str, PublicKey | None] = {}
        for index, key in enumerate(pinned):
            _pin(keys, key, f"pinned_keys[{index}]")
        if not keys:
            raise ValueError("pinned_keys: expected at least one key; None turns verifying off")
        self.beliefs = Beliefs(keys, {}, {})

    @property
    def adopted(self) -> frozenset[str]:
        """The keys that are believed because a pinned one vouches for them."""
        return frozenset(self.beliefs.adopted)

    @property
    def entries(self) -> tuple[Mapping[str, object], ...]:
        """What the list said of the keys believed, endorsements included: to learn from again."""
        return tuple(self.beliefs.entries.values())

    def knows(self, kid: str) -> bool:
        """Whether this key is believed, and at hand."""
        return self.beliefs.key(kid) is not None

    def verify(self, body: bytes, signature: str | None) -> None:
        """Check that a believed key signed exactly these bytes.

        Raises:
            SignatureRejected: no, and why.
        """
        if not signature:
            raise SignatureRejected("missing, and this client verifies")
        read = parse_signature(signature)
        key = self.beliefs.key(read.kid)
        if key is None:
            raise SignatureRejected(f"key {read.kid} is not trusted")
        if not key.verify(read, body):
            raise SignatureRejected(f"it does not match the body (key {read.kid})")

    def learn(self, document: object) -> bool:
        """Believe what the list and the keys believed so far allow; returns whether that changed.

        Adopted keys that the list no longer holds are dropped; pinned ones stay.

        Raises:
            PolicyRejected: this is no list of keys; nothing changed.
        """
        before, believed = self.beliefs, _believed(self.beliefs, _listed_keys(document))
        self.beliefs = believed
        _tell_changes(frozenset(before.adopted), frozenset(believed.adopted))
        return believed.entries != before.entries


def _pin(keys: dict[str, PublicKey | None], key: PinnedKey, name: str) -> None:
    """Add a pin to `keys`.

    Raises:
        ValueError: it is none; `name` says which.
    """
    if isinstance(key, str):
        if not is_thumbprint(key):
            raise ValueError(f"{name}: expected a JWK or the thumbprint of one, not {key!r}")
        keys.setdefault(key, None)
        return
    try:
        parsed = key_of_jwk(key)
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from None
    keys[parsed.kid] = parsed


def _believed(before: Beliefs, listed: Mapping[str, Listed]) -> Beliefs:
    """What to believe once the control plane listed these keys."""
    pinned, adopted = dict(before.pinned), dict[str, PublicKey]()
    entries = {kid: entry for kid, entry in before.entries.items() if kid in pinned}
    for kid in pinned:
        if kid in listed:
            pinned[kid], entries[kid] = listed[kid]
    believed = Beliefs(pinned, adopted, entries)
    while True:
        found = [
            kid
            for kid, candidate in listed.items()
            if believed.key(kid) is None and _is_vouched(candidate, believed)
        ]
        if not found:
            return believed
        for kid in found:
            adopted[kid], entries[kid] = listed[kid]


def _is_vouched(candidate: Listed, believed: Beliefs) -> bool:
    key, entry = candidate
    for signature in _endorsements(entry):
        endorser = believed.key(signature.kid)
        if endorser is not None and endorser.verify(signature, canonical_jwk(key.x)):
            return True
    return False


def _tell_changes(before: frozenset[str], after: frozenset[str]) -> None:
    for kid in sorted(after - before):
        log.info("signing key %s is trusted: a trusted key endorses it", kid)
    for kid in sorted(before - after):
        log.warning("signing key %s is no longer trusted: it is not in the list", kid)


def _listed_keys(document: object) -> dict[str, Listed]:
    """The keys of a JWKS by thumbprint; what is no Ed25519 key in it is left out."""
    keys = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(keys, Sequence) or isinstance(keys, str) or len(keys) > MAX_LISTED_KEYS:
        raise PolicyRejected("keys", f"expected a list of at most {MAX_LISTED_KEYS} keys")
    listed = {}
    for entry in keys:
        if not isinstance(entry, Mapping):
            continue
        try:
            key = key_of_jwk(entry)
        except ValueError:
            continue  # another kind of key, for others
        listed[key.kid] = (key, entry)
    return listed


def _endorsements(entry: Mapping[str, object]) -> list[Signature]:
    """The well-formed endorsements of a listed key, by the key that each names."""
    found = entry.get("endorsements")
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    signatures = []
    for endorsement in found[:MAX_ENDORSEMENTS]:
        text = endorsement.get("signature") if isinstance(endorsement, Mapping) else None
        try:
            signature = parse_signature(text if isinstance(text, str) else "")
        except SignatureRejected:
            continue
        if endorsement.get("kid") == signature.kid:
            signatures.append(signature)
    return signatures

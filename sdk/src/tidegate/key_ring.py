"""The keys this process believes: those pinned in its code, and those that they vouch for.

An unknown key is adopted only when a believed one endorsed it, and only as long as the control
plane lists it: one that was withdrawn disappears from the list, and is believed no more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
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
        self._pinned: dict[str, PublicKey | None] = {}  # None until the list brings the key
        for index, key in enumerate(pinned):
            self._pin(key, f"pinned_keys[{index}]")
        if not self._pinned:
            raise ValueError("pinned_keys: expected at least one key; None turns verifying off")
        self._adopted: dict[str, PublicKey] = {}
        self._entries: dict[str, Mapping[str, object]] = {}

    @property
    def adopted(self) -> frozenset[str]:
        """The keys that are believed because a pinned one vouches for them."""
        return frozenset(self._adopted)

    @property
    def entries(self) -> tuple[Mapping[str, object], ...]:
        """What the list said of the keys believed, endorsements included: to learn from again."""
        return tuple(self._entries.values())

    def knows(self, kid: str) -> bool:
        """Whether this key is believed, and at hand."""
        return self._key(kid) is not None

    def verify(self, body: bytes, signature: str | None) -> None:
        """Check that a believed key signed exactly these bytes.

        Raises:
            SignatureRejected: no, and why.
        """
        if not signature:
            raise SignatureRejected("missing, and this client verifies")
        read = parse_signature(signature)
        key = self._key(read.kid)
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
        before = (self.entries, self.adopted)
        listed = _listed_keys(document)
        entries = {kid: entry for kid, entry in self._entries.items() if kid in self._pinned}
        for kid, (key, entry) in listed.items():
            if kid in self._pinned:
                self._pinned[kid] = key
                entries[kid] = entry
        self._adopted = {}
        while True:
            found = [kid for kid in listed if not self.knows(kid) and self._is_vouched(listed[kid])]
            if not found:
                break
            for kid in found:
                self._adopted[kid], entries[kid] = listed[kid]
        self._entries = entries
        self._tell_changes(before[1])
        return (self.entries, self.adopted) != before

    def _pin(self, key: PinnedKey, name: str) -> None:
        if isinstance(key, str):
            if not is_thumbprint(key):
                raise ValueError(f"{name}: expected a JWK or the thumbprint of one, not {key!r}")
            self._pinned.setdefault(key, None)
            return
        try:
            parsed = key_of_jwk(key)
        except ValueError as problem:
            raise ValueError(f"{name}: {problem}") from None
        self._pinned[parsed.kid] = parsed

    def _key(self, kid: str) -> PublicKey | None:
        return self._pinned.get(kid) or self._adopted.get(kid)

    def _is_vouched(self, candidate: tuple[PublicKey, Mapping[str, object]]) -> bool:
        key, entry = candidate
        for signature in _endorsements(entry):
            endorser = self._key(signature.kid)
            if endorser is not None and endorser.verify(signature, canonical_jwk(key.x)):
                return True
        return False

    def _tell_changes(self, before: frozenset[str]) -> None:
        for kid in sorted(self.adopted - before):
            log.info("signing key %s is trusted: a trusted key endorses it", kid)
        for kid in sorted(before - self.adopted):
            log.warning("signing key %s is no longer trusted: it is not in the list", kid)


def _listed_keys(document: object) -> dict[str, tuple[PublicKey, Mapping[str, object]]]:
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

"""Private keys at rest: sealed with a key that is derived from a secret outside the database."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from controlplane.delivery.domain.jws import PrivateKey, decode_base64url, encode_base64url

_SCHEME = "v1."
_NONCE_BYTES = 12
_PURPOSE = b"tidegate signing key at rest, v1"


class CannotOpen(ValueError):
    """A sealed key that another secret sealed, or that was damaged."""


class Seal:
    """Seals and opens private keys with AES-256-GCM; the key comes from `secret` by HKDF.

    A sealed key is bound to its kid, so that rows cannot be exchanged for one another.
    """

    def __init__(self, secret: str) -> None:
        derived = HKDF(SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret.encode())
        self._cipher = AESGCM(derived)

    def close(self, key: PrivateKey) -> str:
        """Return a private key in the form that may be stored."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, key.seed, key.kid.encode())
        return _SCHEME + encode_base64url(nonce + sealed)

    def open(self, sealed: str, kid: str) -> PrivateKey:
        """Return the private key with this kid.

        Raises:
            CannotOpen: sealed with another secret, of another key, or damaged.
        """
        if not sealed.startswith(_SCHEME):
            raise CannotOpen(f"expected a sealed key that starts with {_SCHEME}")
        try:
            raw = decode_base64url(sealed.removeprefix(_SCHEME))
            seed = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], kid.encode())
            key = PrivateKey(seed)
        except (InvalidTag, ValueError):
            raise CannotOpen("another secret sealed it, or it was damaged") from None
        if key.kid != kid:
            raise CannotOpen(f"it holds the key {key.kid}")
        return key

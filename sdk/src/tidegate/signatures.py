"""Detached JWS signatures (EdDSA, RFC 7797) over the bytes of a body, and the keys they name.

Only Ed25519 with an unencoded payload is accepted: a verifier that lets the message choose its
algorithm has none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.errors import PolicyRejected

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_SIGNATURE_LENGTH = 2048

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64


class SignatureRejected(PolicyRejected):
    """A signature that does not vouch for what it came with."""

    def __init__(self, reason: str) -> None:
        super().__init__("signature", reason)


@dataclass(frozen=True, slots=True)
class Signature:
    """A detached signature, read but not verified."""

    kid: str
    protected: str
    value: bytes


class PublicKey:
    """One Ed25519 public key; `kid` is its RFC 7638 thumbprint.

    Raises:
        ValueError: `x` is not 32 bytes in base64url.
        ModuleNotFoundError: `cryptography` is not installed.
    """

    def __init__(self, x: str) -> None:
        raw = _decoded(x)
        if raw is None or len(raw) != _KEY_BYTES:
            raise ValueError("x: expected the 32 bytes of an Ed25519 public key in base64url")
        self.x = x
        self.kid = thumbprint(x)
        self._key = _load_key(raw)

    def verify(self, signature: Signature, payload: bytes) -> bool:
        """Whether the owner of this key signed these bytes."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature.value, signature.protected.encode() + b"." + payload)
        except InvalidSignature:
            return False
        return True


def canonical_jwk(x: str) -> bytes:
    """The key as RFC 7638 hashes it, and as an endorsement signs it."""
    return f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()


def thumbprint(x: str) -> str:
    """The RFC 7638 thumbprint that names a key."""
    return _encoded(hashlib.sha256(canonical_jwk(x)).digest())


def is_thumbprint(text: str) -> bool:
    """Whether this could be a key's name: 32 bytes in base64url."""
    raw = _decoded(text)
    return raw is not None and len(raw) == hashlib.sha256().digest_size


def key_of_jwk(jwk: Mapping[str, object]) -> PublicKey:
    """The key that a JWK holds.

    Raises:
        ValueError: it is another kind of key, or names itself wrongly.
    """
    if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
        raise ValueError("expected a key with kty OKP and crv Ed25519")
    x = jwk.get("x")
    key = PublicKey(x if isinstance(x, str) else "")
    if jwk.get("kid", key.kid) != key.kid:
        raise ValueError(f"kid: expected the key's thumbprint {key.kid}, not {jwk.get('kid')!r}")
    return key


def parse_signature(text: str) -> Signature:
    """Read a compact detached JWS.

    Raises:
        SignatureRejected: it is malformed, or made in another way than the one accepted.
    """
    parts = text.strip().split(".") if len(text) <= MAX_SIGNATURE_LENGTH else []
    if len(parts) != 3 or parts[1]:
        raise SignatureRejected("expected a detached JWS, <header>..<signature>")
    value = _decoded(parts[2])
    if value is None or len(value) != _SIGNATURE_BYTES:
        raise SignatureRejected("expected the 64 bytes of an Ed25519 signature in base64url")
    header = _header_of(parts[0])
    if header.get("alg") != "EdDSA":
        raise SignatureRejected(f"alg: expected EdDSA, not {header.get('alg')!r}")
    if header.get("b64") is not False or header.get("crit") != ["b64"]:
        raise SignatureRejected('expected "b64": false and "crit": ["b64"]')
    kid = header.get("kid")
    if not isinstance(kid, str) or not is_thumbprint(kid):
        raise SignatureRejected("kid: expected the thumbprint of a key")
    return Signature(kid, parts[0], value)


def _header_of(protected: str) -> Mapping[str, object]:
    try:
        header = json.loads(_decoded(protected) or b"")
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise SignatureRejected("its header is not a JSON object in base64url")
    return header


def _decoded(text: str) -> bytes | None:
    """The bytes that base64url without padding spells; None when it is anything else."""
    if not _BASE64URL.match(text) or len(text) % 4 == 1:
        return None
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return raw if _encoded(raw) == text else None


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _load_key(raw: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(raw)

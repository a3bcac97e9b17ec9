"""Detached signatures over what is delivered: Ed25519 keys (RFC 8037), JWS unencoded (RFC 7797).

A signature is `<protected>..<signature>`: a compact JWS whose payload, the body before any content
coding, travels beside it. Keys are named by their RFC 7638 thumbprint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_JWS_BYTES = 1024
ALGORITHM = "EdDSA"


class BadSignature(ValueError):
    """A signature that does not hold for this body and these keys; the text says why."""


class PrivateKey:
    """One Ed25519 key pair that signs bodies and endorses younger keys."""

    __slots__ = ("_key", "_protected", "kid", "x")

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.x = encode_base64url(self._key.public_key().public_bytes_raw())
        self.kid = thumbprint(self.x)
        header = {"alg": ALGORITHM, "b64": False, "crit": ["b64"], "kid": self.kid}
        self._protected = _base64url(json.dumps(header, separators=(",", ":")).encode())

    @classmethod
    def generate(cls) -> PrivateKey:
        """Return a fresh key pair, whose kid no command line can take for an option."""
        while True:
            key = cls(Ed25519PrivateKey.generate().private_bytes_raw())
            if not key.kid.startswith("-"):  # as one in 64 does
                return key

    @property
    def seed(self) -> bytes:
        """The 32 bytes that must stay secret."""
        return self._key.private_bytes_raw()

    def sign(self, body: bytes) -> bytes:
        """Return the detached JWS over a body."""
        signature = self._key.sign(self._protected + b"." + body)
        return self._protected + b".." + _base64url(signature)

    def endorse(self, x: str) -> str:
        """Return the detached JWS by which whoever trusts this key may trust the key with `x`."""
        return self.sign(canonical_jwk(x)).decode()


def verify(jws: bytes | str, body: bytes, keys: Mapping[str, str]) -> str:
    """Return the kid of the key that signed `body`.

    Args:
        keys: the public `x` of every key that is trusted, by kid.

    Raises:
        BadSignature: not such a JWS, a key that is not among `keys`, or not of this body.
    """
    raw = jws.encode() if isinstance(jws, str) else jws
    if len(raw) > MAX_JWS_BYTES:
        raise BadSignature(f"a signature holds at most {MAX_JWS_BYTES} bytes")
    parts = raw.split(b".")
    if len(parts) != 3 or parts[1]:
        raise BadSignature("expected <protected>..<signature>, with the payload left out")
    kid = _checked_kid(parts[0])
    x = keys.get(kid)
    if x is None:
        raise BadSignature(f"the key {kid} is not trusted")
    signature = _decoded(parts[2].decode("latin-1"), SIGNATURE_BYTES, "the signature")
    public = Ed25519PublicKey.from_public_bytes(decode_x(x))
    try:
        public.verify(signature, parts[0] + b"." + body)
    except InvalidSignature:
        raise BadSignature(f"the key {kid} did not sign this body") from None
    return kid


def canonical_jwk(x: str) -> bytes:
    """Return the one spelling of a public key that thumbprints and endorsements cover."""
    return b'{"crv":"Ed25519","kty":"OKP","x":"%s"}' % x.encode()


def thumbprint(x: str) -> str:
    """Return the RFC 7638 thumbprint (SHA-256) of the public key with this `x`: its kid."""
    return encode_base64url(hashlib.sha256(canonical_jwk(x)).digest())


def decode_x(x: str) -> bytes:
    """Return the 32 bytes of a public key.

    Raises:
        BadSignature: not 32 bytes in unpadded base64url.
    """
    return _decoded(x, KEY_BYTES, "x")


def encode_base64url(raw: bytes) -> str:
    """Return unpadded base64url (RFC 7515, 2)."""
    return _base64url(raw).decode()


def decode_base64url(text: str) -> bytes:
    """Return what unpadded base64url stands for; only the one canonical spelling is read.

    Raises:
        ValueError: padding, foreign characters, or bits beyond the end.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("expected unpadded base64url") from None
    # Two spellings of one signature would let anybody make a second valid one.
    if encode_base64url(raw) != text:
        raise ValueError("expected unpadded base64url in its canonical spelling")
    return raw


def _checked_kid(protected: bytes) -> str:
    try:
        header = json.loads(decode_base64url(protected.decode("latin-1")))
    except (ValueError, RecursionError):
        raise BadSignature("the protected header is not JSON in base64url") from None
    if not isinstance(header, dict):
        raise BadSignature("the protected header is not a JSON object")
    if header.get("alg") != ALGORITHM:
        raise BadSignature(f"expected alg {ALGORITHM}, got {header.get('alg')!r}")
    # RFC 7797, 6: who leaves b64 out of crit would be misread by those who do not know it.
    if header.get("b64") is not False or header.get("crit") != ["b64"]:
        raise BadSignature('expected "b64": false, and exactly that in crit')
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise BadSignature("the protected header names no key (kid)")
    return kid


def _decoded(text: str, length: int, what: str) -> bytes:
    try:
        raw = decode_base64url(text)
    except ValueError as problem:
        raise BadSignature(f"{what}: {problem}") from None
    if len(raw) != length:
        raise BadSignature(f"{what} holds {len(raw)} bytes; expected {length}")
    return raw


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")

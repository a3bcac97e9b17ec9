"""Keys, signatures and lists of keys as the control plane makes them, for the tests."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

USUAL_HEADER: Mapping[str, Any] = {"alg": "EdDSA", "b64": False, "crit": ["b64"]}


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class SigningKey:
    """One key of the control plane; the same number makes the same key."""

    def __init__(self, number: int) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
        self.x = base64url(self._private.public_key().public_bytes_raw())
        self.canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{self.x}"}}'.encode()
        self.kid = base64url(hashlib.sha256(self.canonical).digest())
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": self.kid}

    def sign(self, payload: bytes, **changed: Any) -> str:
        """A detached JWS; `changed` replaces members of its header, None removes them."""
        header = {**USUAL_HEADER, "kid": self.kid, **changed}
        kept = {name: value for name, value in header.items() if value is not None}
        protected = base64url(json.dumps(kept).encode())
        return f"{protected}..{base64url(self._private.sign(protected.encode() + b'.' + payload))}"

    def listed(self, *endorsers: SigningKey, status: str = "active") -> dict[str, Any]:
        """The key's entry in `/config/v1/keys`, endorsed by others."""
        return {
            **self.jwk,
            "use": "sig",
            "alg": "EdDSA",
            "status": status,
            "not_before": "2026-11-02T00:00:00Z",
            "endorsements": [
                {"kid": endorser.kid, "signature": endorser.sign(self.canonical)}
                for endorser in endorsers
            ],
        }


def key_list(*entries: Mapping[str, Any]) -> dict[str, Any]:
    return {"keys": list(entries)}

"""Detached signatures: the vectors of RFC 8037, the rules of RFC 7797, and no tampering."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt import PyJWK
from jwt.api_jws import PyJWS

from controlplane.delivery.domain.jws import (
    BadSignature,
    PrivateKey,
    canonical_jwk,
    decode_base64url,
    encode_base64url,
    thumbprint,
    verify,
)

# RFC 8037, appendix A.1 to A.4.
RFC_SEED = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
RFC_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
RFC_PAYLOAD = b"Example of Ed25519 signing"
RFC_PROTECTED = "eyJhbGciOiJFZERTQSJ9"
RFC_SIGNATURE = (
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)

KEY = PrivateKey(bytes(range(32)))
OTHER = PrivateKey(bytes(range(1, 33)))
TRUSTED = {KEY.kid: KEY.x}
BODY = b'{"schema":"tidegate/v1","sequence":7}'


def jws_of(header: object, body: bytes = BODY, key: PrivateKey = KEY) -> bytes:
    """A signature by the real key over any header at all."""
    protected = encode_base64url(json.dumps(header).encode()).encode()
    raw = _raw_signature(key, protected + b"." + body)
    return protected + b".." + encode_base64url(raw).encode()


def _raw_signature(key: PrivateKey, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(key.seed).sign(message)


def test_the_key_of_rfc_8037_has_its_public_part_and_its_thumbprint() -> None:
    key = PrivateKey(decode_base64url(RFC_SEED))

    assert key.x == RFC_X
    assert key.kid == thumbprint(RFC_X) == RFC_THUMBPRINT
    assert canonical_jwk(RFC_X) == b'{"crv":"Ed25519","kty":"OKP","x":"%s"}' % RFC_X.encode()


def test_no_fresh_key_has_a_kid_that_a_command_line_takes_for_an_option() -> None:
    # One in 64 thumbprints does: that none of 1,000 were there by chance is one in ten million.
    assert "-" not in {PrivateKey.generate().kid[0] for _ in range(1000)}


def test_the_signature_of_rfc_8037_is_what_our_primitive_makes_and_checks() -> None:
    key = PrivateKey(decode_base64url(RFC_SEED))
    payload = encode_base64url(RFC_PAYLOAD)

    raw = _raw_signature(key, f"{RFC_PROTECTED}.{payload}".encode())

    assert encode_base64url(raw) == RFC_SIGNATURE


def test_a_signature_names_its_key_and_leaves_the_payload_out() -> None:
    protected, payload, _ = KEY.sign(BODY).split(b".")

    assert payload == b""
    assert json.loads(decode_base64url(protected.decode())) == {
        "alg": "EdDSA", "b64": False, "crit": ["b64"], "kid": KEY.kid,
    }  # fmt: skip
    assert verify(KEY.sign(BODY), BODY, TRUSTED) == KEY.kid


def test_another_implementation_accepts_what_we_sign_and_we_what_it_signs() -> None:
    jwk = PyJWK.from_dict({"kty": "OKP", "crv": "Ed25519", "x": KEY.x, "alg": "EdDSA"})
    private = PyJWK.from_dict(
        {"kty": "OKP", "crv": "Ed25519", "x": KEY.x, "d": encode_base64url(KEY.seed)}
    )

    found = PyJWS().decode_complete(
        KEY.sign(BODY), jwk, algorithms=["EdDSA"], detached_payload=BODY
    )
    theirs = PyJWS().encode(
        BODY, private.key, algorithm="EdDSA", headers={"kid": KEY.kid, "b64": False},
        is_payload_detached=True,
    )  # fmt: skip

    assert found["header"]["kid"] == KEY.kid
    assert verify(theirs, BODY, TRUSTED) == KEY.kid


@given(body=st.binary(max_size=200))
def test_every_body_that_was_signed_verifies(body: bytes) -> None:
    assert verify(KEY.sign(body), body, TRUSTED) == KEY.kid


@settings(max_examples=300)
@given(data=st.data())
def test_one_changed_byte_of_the_body_or_the_signature_is_refused(data: st.DataObject) -> None:
    body = data.draw(st.binary(min_size=1, max_size=100))
    signed = {"body": bytearray(body), "jws": bytearray(KEY.sign(body))}
    which = data.draw(st.sampled_from(["body", "jws"]))
    at = data.draw(st.integers(0, len(signed[which]) - 1))
    signed[which][at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(BadSignature):
        verify(bytes(signed["jws"]), bytes(signed["body"]), TRUSTED)


@given(noise=st.binary(max_size=300))
def test_noise_is_refused_and_never_crashes(noise: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(noise, BODY, TRUSTED)


GOOD: dict[str, Any] = {"alg": "EdDSA", "b64": False, "crit": ["b64"], "kid": KEY.kid}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({**GOOD, "alg": "none"}, "expected alg EdDSA"),
        ({**GOOD, "alg": "HS256"}, "expected alg EdDSA"),
        ({**GOOD, "b64": True}, '"b64": false'),
        ({key: GOOD[key] for key in ("alg", "crit", "kid")}, '"b64": false'),
        ({key: GOOD[key] for key in ("alg", "b64", "kid")}, '"b64": false'),
        ({**GOOD, "crit": []}, '"b64": false'),
        ({**GOOD, "crit": ["b64", "exp"]}, '"b64": false'),
        ({key: GOOD[key] for key in ("alg", "b64", "crit")}, "names no key"),
        ({**GOOD, "kid": OTHER.kid}, "is not trusted"),
        ([GOOD], "not a JSON object"),
    ],
)
def test_a_header_that_means_something_else_is_refused(header: object, message: str) -> None:
    with pytest.raises(BadSignature, match=message):
        verify(jws_of(header), BODY, TRUSTED)


def test_the_same_header_that_means_what_ours_does_is_accepted() -> None:
    assert verify(jws_of(GOOD), BODY, TRUSTED) == KEY.kid


def test_a_signature_by_another_key_under_a_trusted_name_is_refused() -> None:
    with pytest.raises(BadSignature, match="did not sign this body"):
        verify(jws_of(GOOD, key=OTHER), BODY, TRUSTED)


def test_a_payload_inside_the_signature_is_refused() -> None:
    protected, _, signature = KEY.sign(BODY).split(b".")
    whole = b".".join((protected, encode_base64url(BODY).encode(), signature))

    with pytest.raises(BadSignature, match="payload left out"):
        verify(whole, BODY, TRUSTED)


def test_an_endorsement_is_a_signature_over_the_canonical_key() -> None:
    endorsement = KEY.endorse(OTHER.x)

    assert verify(endorsement, canonical_jwk(OTHER.x), TRUSTED) == KEY.kid
    with pytest.raises(BadSignature):
        verify(endorsement, canonical_jwk(KEY.x), TRUSTED)


@pytest.mark.parametrize("text", ["YQ==", "YR", "a", "YQ\n", "Y+", "ä"])
def test_base64url_has_one_spelling(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        decode_base64url(text)

"""Which signatures and which keys are believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.signing import SigningKey, base64url, key_list
from tests.waiting import HUNG_S
from tidegate import PolicyClient, PolicyRejected, VerificationUnavailable
from tidegate.key_ring import KeyRing
from tidegate.signatures import SignatureRejected, parse_signature

FIRST, SECOND, THIRD, STRANGER = (SigningKey(number) for number in (1, 2, 3, 9))
BODY = b'{"schema": "tidegate/v1"}'


def ring(*pinned: Any) -> KeyRing:
    return KeyRing(pinned or (FIRST.jwk,))


def test_a_body_that_a_pinned_key_signed_is_believed() -> None:
    ring().verify(BODY, FIRST.sign(BODY))


def test_the_signature_of_rfc_8037_is_a_signature_here_too() -> None:
    # RFC 8037, appendix A.1 and A.3: key and thumbprint.
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    known = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"

    assert KeyRing([jwk]).knows(known)


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (None, "missing, and this client verifies"),
        ("", "missing, and this client verifies"),
        ("a.b.c", "expected a detached JWS"),
        ("a..", "expected the 64 bytes"),
        ("a" * 5000, "expected a detached JWS"),
        (STRANGER.sign(BODY), f"key {STRANGER.kid} is not trusted"),
        (FIRST.sign(b"another body"), "it does not match the body"),
        (STRANGER.sign(BODY, kid=FIRST.kid), "it does not match the body"),
        (FIRST.sign(BODY, alg="none"), "alg: expected EdDSA, not 'none'"),
        (FIRST.sign(BODY, alg="HS256"), "alg: expected EdDSA, not 'HS256'"),
        (FIRST.sign(BODY, b64=True), 'expected "b64": false'),
        (FIRST.sign(BODY, b64=None), 'expected "b64": false'),
        (FIRST.sign(BODY, b64=0), 'expected "b64": false'),
        (FIRST.sign(BODY, crit=None), '"crit": ["b64"]'),
        (FIRST.sign(BODY, crit=["b64", "exp"]), '"crit": ["b64"]'),
        (FIRST.sign(BODY, crit=[]), '"crit": ["b64"]'),
        (FIRST.sign(BODY, kid=None), "kid: expected the thumbprint of a key"),
        (FIRST.sign(BODY, kid="../keys"), "kid: expected the thumbprint of a key"),
        (f"{base64url(b'[]')}..{base64url(bytes(64))}", "its header is not a JSON object"),
        (f"{base64url(b'{')}..{base64url(bytes(64))}", "its header is not a JSON object"),
        (FIRST.sign(BODY) + "=", "expected the 64 bytes"),
        (FIRST.sign(BODY)[:-1], "expected the 64 bytes"),
    ],
)
def test_what_does_not_verify_is_refused_and_says_why(signature: str | None, reason: str) -> None:
    with pytest.raises(SignatureRejected) as caught:
        ring().verify(BODY, signature)

    assert reason in str(caught.value)
    assert str(caught.value).startswith("signature: ")


def test_a_signature_has_one_spelling() -> None:
    signature = FIRST.sign(BODY)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(signature[-1])  # its low four bits mean nothing

    with pytest.raises(SignatureRejected, match="expected the 64 bytes"):
        ring().verify(BODY, signature[:-1] + alphabet[last ^ 1])


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_any_changed_byte_of_the_body_is_noticed(place: int, change: int) -> None:
    changed = bytearray(BODY)
    changed[place] ^= change

    with pytest.raises(SignatureRejected):
        ring().verify(bytes(changed), FIRST.sign(BODY))


@given(st.text(max_size=200) | st.text("abcdefghijklmnop._-=", max_size=200))
def test_any_text_is_a_signature_or_a_refusal(text: str) -> None:
    with pytest.raises(SignatureRejected):
        parse_signature(text)


def test_a_key_pinned_by_its_thumbprint_is_known_once_the_list_brought_it() -> None:
    keys = ring(FIRST.kid)
    assert not keys.knows(FIRST.kid)

    keys.learn(key_list(SECOND.listed(), FIRST.listed()))

    keys.verify(BODY, FIRST.sign(BODY))
    assert not keys.knows(SECOND.kid)


def test_a_key_is_believed_through_a_chain_of_endorsements_whatever_their_order() -> None:
    keys = ring()

    assert keys.learn(
        key_list(THIRD.listed(SECOND), SECOND.listed(FIRST), FIRST.listed(status="retired"))
    )

    keys.verify(BODY, THIRD.sign(BODY))
    assert keys.adopted == {SECOND.kid, THIRD.kid}


def endorsed_by(*endorsements: object) -> dict[str, Any]:
    return SECOND.listed() | {"endorsements": list(endorsements)}


def without(entry: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != name}


ENDORSED = SECOND.listed(FIRST)
FORGED = {
    "nobody": SECOND.listed(),
    "itself": SECOND.listed(SECOND),
    "stranger": SECOND.listed(STRANGER),
    "another key's": endorsed_by({"kid": FIRST.kid, "signature": FIRST.sign(THIRD.canonical)}),
    "wrong name": endorsed_by({"kid": STRANGER.kid, "signature": FIRST.sign(SECOND.canonical)}),
    "borrowed name": endorsed_by(
        {"kid": FIRST.kid, "signature": STRANGER.sign(SECOND.canonical, kid=FIRST.kid)}
    ),
    "another's kid": ENDORSED | {"kid": THIRD.kid},
    "no list": ENDORSED | {"endorsements": "FIRST"},
    "odd entries": endorsed_by(None, 7, {}, {"kid": FIRST.kid}, {"signature": 7}),
    "other curve": ENDORSED | {"crv": "X25519"},
    "short key": without(ENDORSED, "kid") | {"x": SECOND.x[:-4]},
    "too many": endorsed_by(*[None] * 16, *ENDORSED["endorsements"]),
}


@pytest.mark.parametrize("entry", FORGED.values(), ids=FORGED)
def test_an_endorsement_that_proves_nothing_makes_no_key_believed(entry: dict[str, Any]) -> None:
    keys = ring()

    keys.learn(key_list(FIRST.listed(), entry))

    assert keys.adopted == frozenset()


def test_two_strangers_that_endorse_each_other_stay_strangers() -> None:
    keys = ring()

    keys.learn(key_list(SECOND.listed(THIRD), THIRD.listed(SECOND)))

    assert keys.adopted == frozenset()


def test_an_adopted_key_that_disappears_is_dropped_with_those_it_alone_vouched_for() -> None:
    keys = ring()
    keys.learn(key_list(SECOND.listed(FIRST), THIRD.listed(SECOND)))

    assert keys.learn(key_list(FIRST.listed(), THIRD.listed(SECOND)))

    assert keys.adopted == frozenset()
    with pytest.raises(SignatureRejected, match="not trusted"):
        keys.verify(BODY, SECOND.sign(BODY))


def test_pinned_keys_stay_whatever_the_list_says() -> None:
    keys = ring(FIRST.jwk, SECOND.kid)
    keys.learn(key_list(SECOND.listed()))

    keys.learn(key_list())

    keys.verify(BODY, FIRST.sign(BODY))
    keys.verify(BODY, SECOND.sign(BODY))


def test_what_was_learned_can_be_learned_again_from_its_entries() -> None:
    keys = ring(FIRST.kid)
    keys.learn(key_list(FIRST.listed(), SECOND.listed(FIRST), THIRD.listed(SECOND)))

    again = ring(FIRST.kid)
    again.learn(json.loads(json.dumps({"keys": keys.entries})))

    assert again.adopted == {SECOND.kid, THIRD.kid}
    assert again.knows(FIRST.kid)


def test_the_same_list_again_changes_nothing() -> None:
    keys = ring()
    listed = key_list(FIRST.listed(), SECOND.listed(FIRST))

    assert keys.learn(listed)
    assert not keys.learn(listed)


@pytest.mark.parametrize(
    "document", [None, [], {}, {"keys": {}}, {"keys": "x"}, {"keys": [1] * 257}]
)
def test_what_is_no_list_of_keys_changes_nothing(document: object) -> None:
    keys = ring()
    keys.learn(key_list(SECOND.listed(FIRST)))

    with pytest.raises(PolicyRejected, match="keys: expected a list of at most 256 keys"):
        keys.learn(document)

    assert keys.adopted == {SECOND.kid}


@pytest.mark.parametrize(
    ("pinned", "message"),
    [
        ([], "pinned_keys: expected at least one key; None turns verifying off"),
        (FIRST.kid, "pinned_keys: expected a list, even of one key"),
        (FIRST.jwk, "pinned_keys: expected a list, even of one key"),
        (["first"], r"pinned_keys\[0\]: expected a JWK or the thumbprint of one, not 'first'"),
        ([FIRST.jwk, {}], r"pinned_keys\[1\]: expected a key with kty OKP and crv Ed25519"),
        ([FIRST.jwk | {"x": "AA"}], r"pinned_keys\[0\]: x: expected the 32 bytes"),
        ([FIRST.jwk | {"kid": "mine"}], r"pinned_keys\[0\]: kid: expected the key's thumbprint"),
    ],
)
def test_what_is_no_key_cannot_be_pinned(pinned: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicyClient("http://tidegate", "prod", "checkout", "tgs_x", pinned_keys=pinned)


def test_pinning_without_anything_to_verify_with_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tidegate.key_ring.find_spec", lambda name: None)

    with pytest.raises(VerificationUnavailable, match=r"pip install 'tidegate\[verify\]'"):
        PolicyClient("http://tidegate", "prod", "checkout", "tgs_x", pinned_keys=[FIRST.kid])


def test_without_cryptography_everything_else_works() -> None:
    program = """
import sys
sys.modules["cryptography"] = None
import tidegate
tidegate.PolicyClient("http://x", "prod", "checkout", "tgs_x")
tidegate.SyncPolicyClient("http://x", "prod", "checkout", "tgs_x")
try:
    tidegate.PolicyClient("http://x", "prod", "checkout", "tgs_x", pinned_keys=["a"])
except tidegate.VerificationUnavailable:
    sys.exit(0)
sys.exit("nothing was said")
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=False, timeout=HUNG_S,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")

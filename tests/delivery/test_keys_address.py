"""`GET /config/v1/keys`: what clients read to trust a key they do not know yet."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.delivery.domain.jws import PrivateKey
from controlplane.delivery.domain.keyring import AnnouncedKey, Endorsement
from controlplane.delivery.hotpath.keys import PATH, KeysAddress
from controlplane.delivery.hotpath.problems import Answer, Refusal
from controlplane.delivery.hotpath.requests import Request
from tests.delivery.builders import NOW, Clock

OLD, YOUNG = PrivateKey(b"o" * 32), PrivateKey(b"y" * 32)


def announced(key: PrivateKey, from_s: float, *endorsers: PrivateKey) -> AnnouncedKey:
    return AnnouncedKey(
        key.kid, key.x, NOW.timestamp() + from_s, sealed="v1.secret",
        endorsements=tuple(Endorsement(each.kid, each.endorse(key.x)) for each in endorsers),
    )  # fmt: skip


def ask(address: KeysAddress, method: str = "GET", **headers: str) -> Answer:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return address.answer(Request(method, PATH, b"", pairs))


def listed(answer: Answer) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = json.loads(answer.body)["keys"]
    return keys


def statuses(answer: Answer) -> dict[str, str]:
    return {key["kid"]: key["status"] for key in listed(answer)}


def loaded(clock: Clock, *keys: AnnouncedKey) -> KeysAddress:
    address = KeysAddress(clock)
    address.put(keys)
    return address


def test_each_key_is_a_jwk_with_its_endorsements_and_without_its_private_part() -> None:
    address = loaded(Clock(), announced(OLD, -60), announced(YOUNG, 600, OLD))

    answer = ask(address)

    headers = dict(answer.headers)
    assert headers[b"content-type"] == b"application/jwk-set+json"
    assert headers[b"cache-control"] == b"public, max-age=60"
    assert b"secret" not in answer.body
    assert listed(answer)[1] == {
        "kty": "OKP", "crv": "Ed25519", "x": YOUNG.x, "kid": YOUNG.kid, "use": "sig",
        "alg": "EdDSA", "status": "next", "not_before": "2026-11-02T02:24:00Z",
        "endorsements": [{"kid": OLD.kid, "signature": OLD.endorse(YOUNG.x)}],
    }  # fmt: skip


def test_the_clock_makes_the_next_key_the_active_one() -> None:
    clock = Clock()
    address = loaded(clock, announced(OLD, -60), announced(YOUNG, 600, OLD))
    before = ask(address)

    clock.pass_s(599.9)
    just_before = ask(address)
    clock.pass_s(0.1)
    after = ask(address)

    assert just_before is before
    assert statuses(before) == {OLD.kid: "active", YOUNG.kid: "next"}
    assert statuses(after) == {OLD.kid: "retired", YOUNG.kid: "active"}
    assert dict(before.headers)[b"etag"] != dict(after.headers)[b"etag"]


def test_who_has_the_list_is_told_so_until_it_changes() -> None:
    address = loaded(Clock(), announced(OLD, -60))
    tag = dict(ask(address).headers)[b"etag"].decode()

    same = ask(address, if_none_match=f"W/{tag}")
    address.put([announced(OLD, -60), announced(YOUNG, 600, OLD)])
    changed = ask(address, if_none_match=tag)

    assert (same.status, same.body, dict(same.headers)[b"etag"]) == (304, b"", tag.encode())
    assert (changed.status, len(listed(changed))) == (200, 2)


def test_the_word_of_a_withdrawn_key_is_not_passed_on() -> None:
    address = loaded(Clock(), announced(YOUNG, -60, OLD))

    assert listed(ask(address))[0]["endorsements"] == []


def test_before_keys_are_loaded_clients_are_asked_to_come_back() -> None:
    with pytest.raises(Refusal) as caught:
        ask(KeysAddress(Clock()))

    assert caught.value.status == 503
    assert 1 <= int(dict(caught.value.headers)[b"retry-after"]) <= 3


def test_an_installation_without_a_key_lists_none() -> None:
    assert listed(ask(loaded(Clock()))) == []


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("POST", {}, 405), ("GET", {"if_none_match": "no quotes"}, 400)],
)
def test_what_cannot_be_answered_is_refused(
    method: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(Refusal) as caught:
        ask(loaded(Clock(), announced(OLD, -60)), method, **headers)

    assert caught.value.status == status


def test_a_clock_that_is_behind_every_key_still_finds_the_first_one_active() -> None:
    address = loaded(Clock(), announced(OLD, 5), announced(YOUNG, 600, OLD))

    assert statuses(ask(address)) == {OLD.kid: "active", YOUNG.kid: "next"}

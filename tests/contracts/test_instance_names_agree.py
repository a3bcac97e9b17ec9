"""What the SDK takes as the name of an instance is what the control plane takes."""

from __future__ import annotations

import pytest

from controlplane.delivery.hotpath.headers import read_report
from controlplane.delivery.hotpath.problems import Refusal
from tidegate import PolicyClient, SyncPolicyClient
from tidegate.identity import Identity, forked_name

GOOD = ["a", "web-1", "prod:web_1.example", "9", "-", "x" * 128]
BAD = ["", "x" * 129, "a b", "größe", 'a"b', "a/b", "a\n", "a\r\nX-Other: 1"]


def is_taken(name: str) -> bool:
    try:
        return read_report({b"tidegate-instance": name.encode()}) is not None
    except Refusal:
        return False


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_taken_by_both(name: str) -> None:
    assert is_taken(name)
    client = PolicyClient("http://x", "prod", "checkout", "tgs_x", instance_id=name)
    assert client.instance_id == name


@pytest.mark.parametrize("made", [PolicyClient, SyncPolicyClient])
@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_a_bad_name_is_refused_by_both_the_sdk_at_once(name: str, made: type[PolicyClient]) -> None:
    assert not is_taken(name)

    with pytest.raises(ValueError, match="instance_id: expected 1 to 128 of: letters, digits"):
        made("http://x", "prod", "checkout", "tgs_x", instance_id=name)


@pytest.mark.parametrize("given", ["web", "x" * 128])
def test_names_that_the_sdk_makes_are_taken(given: str) -> None:
    assert is_taken(Identity().name)
    child = forked_name(given, 4_194_304)
    assert is_taken(child)
    assert child.endswith("-4194304")

from __future__ import annotations

import pytest

from controlplane.kernel.ids import is_request_id, new_request_id


def test_a_new_request_id_is_one_that_we_accept() -> None:
    assert is_request_id(new_request_id())
    assert new_request_id() != new_request_id()


@pytest.mark.parametrize("text", ["", "a" * 129, "a b", "a\n", "ä", 'a"b', "a/b"])
def test_an_unsafe_request_id_is_refused(text: str) -> None:
    assert not is_request_id(text)


@pytest.mark.parametrize("text", ["a", "a" * 128, "4bf92f35-77b3:4da6.a3ce_929d"])
def test_a_safe_request_id_is_accepted(text: str) -> None:
    assert is_request_id(text)

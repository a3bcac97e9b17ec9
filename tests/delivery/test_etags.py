"""Entity tags: what a client or a proxy may send, and what it may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.delivery.domain.etags import (
    BadTag,
    claimed_position,
    parse_condition,
    parse_tag,
)

opaque = st.binary(max_size=40).map(
    lambda raw: bytes(byte for byte in raw if byte == 0x21 or 0x23 <= byte <= 0x7E or byte >= 0x80)
)
weakness = st.sampled_from([b"", b"W/"])
separator = st.sampled_from([b",", b", ", b" , ", b",,", b", ,\t"])


@given(st.lists(st.tuples(weakness, opaque), min_size=1, max_size=20), separator)
def test_a_list_matches_each_of_its_tags_however_it_is_written(
    tags: list[tuple[bytes, bytes]], comma: bytes
) -> None:
    condition = parse_condition(comma.join(weak + b'"' + tag + b'"' for weak, tag in tags))

    for _, tag in tags:
        assert condition.matches(b'"' + tag + b'"')
        assert condition.matches(b'W/"' + tag + b'"')


@given(st.lists(opaque, min_size=1, max_size=20), opaque)
def test_a_list_matches_nothing_else(tags: list[bytes], other: bytes) -> None:
    condition = parse_condition(b", ".join(b'"' + tag + b'"' for tag in tags))

    assert condition.matches(b'"' + other + b'"') == (other in tags)


@given(st.binary(max_size=60))
def test_any_bytes_are_either_a_condition_or_refused(value: bytes) -> None:
    try:
        condition = parse_condition(value)
    except BadTag:
        return
    assert condition.is_any or condition.tags


@given(st.binary(max_size=60))
def test_a_tag_that_parses_is_itself_without_its_weakness(value: bytes) -> None:
    try:
        tag = parse_tag(value)
    except BadTag:
        return
    assert tag == value.strip(b" \t").removeprefix(b"W/")
    assert parse_condition(value).matches(tag)


def test_a_star_matches_whatever_there_is() -> None:
    assert parse_condition(b" * ").matches(b'"anything"')


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", "is empty"),
        (b" , ,", "is empty"),
        (b"7-0-9f3c", "expected * or quoted entity tags"),
        (b'"a" "b"', "separated by commas"),
        (b'"a", *', "expected * or quoted entity tags"),
        (b'w/"a"', "expected * or quoted entity tags"),
        (b'"a', "expected * or quoted entity tags"),
        (b", ".join(b'"%d"' % number for number in range(65)), "more than 64"),
    ],
)
def test_a_bad_condition_is_refused_and_says_why(value: bytes, message: str) -> None:
    with pytest.raises(BadTag, match=message.replace("*", r"\*")):
        parse_condition(value)


@pytest.mark.parametrize("value", [b"", b"*", b"abc", b'"a", "b"', b'"' + b"x" * 129 + b'"'])
def test_an_acknowledgement_names_exactly_one_tag_of_bounded_length(value: bytes) -> None:
    with pytest.raises(BadTag):
        parse_tag(value)


@given(st.integers(0, 10**17), st.integers(0, 9999))
def test_our_own_tags_claim_their_position(sequence: int, step: int) -> None:
    assert claimed_position(f"{sequence}-{step}-5ca1ab1e") == (sequence, step)


@pytest.mark.parametrize("etag", ["", "abc", "7-0-", "7-0-XYZ", "-7-0-ab", "٣-0-ab", "7-0-ab "])
def test_foreign_tags_claim_nothing(etag: str) -> None:
    assert claimed_position(etag) is None


@pytest.mark.parametrize(
    ("value", "above"),
    [
        (b'"9-0-ab"', 9),
        (b'"7-1-ab"', 0),
        (b'"3-0-ab", W/"12-4-cd", "8-0-ef"', 12),
        (b'"another-server"', 0),
        (b"*", 0),
    ],
    ids=["later", "the same", "one of several", "foreign", "any"],
)
def test_a_condition_says_when_its_client_holds_a_later_publication(
    value: bytes, above: int
) -> None:
    assert parse_condition(value).sequence_above(7) == above

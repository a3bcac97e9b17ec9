"""A document is read from its text only when the text is plain JSON, and says where it is not."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput, Problem
from controlplane.policies.domain.document import MAX_BYTES, parse_document
from controlplane.policies.domain.schema import EXAMPLE
from tests.policies.domain.documents import documents

DEADLINE = "expected a whole number of ms from 1 to 600000"
TOO_DEEP = "nested deeper than 16 levels; a policy document needs 7"


@pytest.mark.parametrize(
    ("raw", "path", "message"),
    [
        (b"", "", "not JSON: Expecting value at line 1, column 1"),
        (
            b"{'inbound': {}}",
            "",
            "not JSON: Expecting property name enclosed in double quotes at line 1, column 2",
        ),
        (
            b'{"inbound": {},\n}',
            "",
            "not JSON: Expecting property name enclosed in double quotes at line 2, column 1",
        ),
        (b'{"inbound": {}} {}', "", "not JSON: Extra data at line 1, column 17"),
        (b"inbound:\n  deadline_ms: 3", "", "not JSON: Expecting value at line 1, column 1"),
        (b"[]", "", "a policy document is an object, not a list"),
        (b"null", "", "a policy document is an object, not null"),
        (b'"text"', "", "a policy document is an object, not text"),
        (
            b'{"inbound": {"a": "\xff"}}',
            "",
            "not UTF-8: byte 19 (0xff) starts no character; save the document as UTF-8",
        ),
        (
            '{"inbound": {}}'.encode("utf-16"),
            "",
            "not UTF-8: byte 0 (0xff) starts no character; save the document as UTF-8",
        ),
        (
            b" " * (MAX_BYTES + 1),
            "",
            "262,145 bytes: at most 262,144 (256 KiB) are read",
        ),
        (b'{"a":' * 17 + b"1" + b"}" * 17, ".".join("a" * 16), TOO_DEEP),
        (b"[" * 100_000, "", TOO_DEEP),
        (b'{"a":' * 40_000, "", TOO_DEEP),
        (
            b'{"inbound": {"deadline_ms": 1, "deadline_ms": 2}}',
            "inbound.deadline_ms",
            "the same key twice: keep one of them",
        ),
        (b'{"inbound": {}, "inbound": {}}', "inbound", "the same key twice: keep one of them"),
        (
            b'{"inbound": {"deadline_ms": NaN}}',
            "inbound.deadline_ms",
            f"NaN is not a finite number: {DEADLINE}",
        ),
        (
            b'{"inbound": {"deadline_ms": -Infinity}}',
            "inbound.deadline_ms",
            f"Infinity, or a number too large to hold, is not a finite number: {DEADLINE}",
        ),
        (
            b'{"inbound": {"deadline_ms": 1e999}}',
            "inbound.deadline_ms",
            f"Infinity, or a number too large to hold, is not a finite number: {DEADLINE}",
        ),
        (
            b'{"inbound": {"deadline_ms": ' + b"9" * 5000 + b"}}",
            "inbound.deadline_ms",
            f"Infinity, or a number too large to hold, is not a finite number: {DEADLINE}",
        ),
        (
            rb'{"inbound": {"rate": {"mode": "\ud800"}}}',
            "inbound.rate.mode",
            "text with half a surrogate pair is not valid Unicode",
        ),
        (
            rb'{"inbound": {"\udfff": 1}}',
            "inbound",
            r"the key '\\udfff' holds half a surrogate pair",
        ),
        (
            b'{"inbound": {"rate": {"mode": "' + b"x" * 1001 + b'"}}}',
            "inbound.rate.mode",
            "text of 1001 characters: at most 1000 are allowed",
        ),
    ],
    ids=[
        "empty", "single quotes", "trailing comma", "two documents", "YAML", "list", "null",
        "text", "not UTF-8", "UTF-16", "huge", "deep", "deeper than the parser", "deep objects",
        "duplicate key", "duplicate section", "NaN", "-Infinity", "1e999", "5000 digits",
        "lone surrogate", "lone surrogate as key", "long text",
    ],
)  # fmt: skip
def test_text_that_is_no_document_is_refused(raw: bytes, path: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_document(raw)

    assert caught.value.problems == (Problem(path, message),)


def test_every_odd_place_is_reported_at_once() -> None:
    raw = rb'{"inbound": {"a": NaN, "a": NaN, "b": "\ud800", "c": 1e400}, "x": {"d": 1, "d": 1}}'

    with pytest.raises(InvalidInput) as caught:
        parse_document(raw)

    assert [problem.path for problem in caught.value.problems] == [
        "inbound.a",
        "inbound.a",
        "inbound.b",
        "inbound.c",
        "x.d",
    ]


def test_whole_floats_are_integers_and_a_byte_order_mark_is_ignored() -> None:
    raw = b'\xef\xbb\xbf{"inbound": {"deadline_ms": 2e3, "rate": {"per_s": 0.5}}}'

    document = parse_document(raw)

    assert document == {"inbound": {"deadline_ms": 2000, "rate": {"per_s": 0.5}}}
    assert type(document["inbound"]["deadline_ms"]) is int


def test_text_may_be_decoded_already() -> None:
    assert parse_document(json.dumps(EXAMPLE)) == EXAMPLE


@given(documents())
def test_what_is_written_comes_back(document: dict[str, object]) -> None:
    assert parse_document(json.dumps(document).encode()) == document


@given(st.one_of(st.binary(), st.text()))
def test_no_text_does_worse_than_a_refusal(raw: bytes | str) -> None:
    with suppress(InvalidInput):
        assert isinstance(parse_document(raw), dict)

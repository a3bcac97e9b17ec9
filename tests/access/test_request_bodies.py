"""Bodies are strict JSON, and what is wrong with one is said in words."""

from __future__ import annotations

import io

import pytest
from rest_framework import serializers
from rest_framework.exceptions import ParseError

from controlplane.access.http.parsing import MalformedBody, StrictJSONParser, StrictSerializer


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not UTF-8 at byte 1"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5000 digits; at most 100 are read"),
        (b'{"a": 1, "a": 2}', 'the key "a" appears twice in one object'),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'"' + b"x" * 600_000 + b'"', "larger than 512 KiB"),
    ],
    ids=["cut off", "bytes", "digits", "twice", "deep", "large"],
)
def test_a_body_that_is_not_strict_json_is_refused_in_words(body: bytes, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        StrictJSONParser().parse(io.BytesIO(body))

    assert message in str(caught.value)


def test_ordinary_numbers_are_read_as_they_are() -> None:
    assert StrictJSONParser().parse(io.BytesIO(b'{"a": [1, -2, 0.5, 1e3]}')) == {
        "a": [1, -2, 0.5, 1000.0]
    }


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (
            b'{"patch": {"inbound": {"deadline_ms": 1, "deadline_ms": 2}}}',
            "patch.inbound.deadline_ms",
        ),
        (b'{"reason": 1, "reason": 2}', "reason"),
        (b'{"a": [1, {"b": ' + b"9" * 101 + b"}]}", "a.1.b"),
        (b'{"a": {"reason": "\xff"}}', "a.reason"),
        (b'{"a": {"\xff": 1}}', "a"),
        (b"{", ""),
    ],
)
def test_what_cannot_be_read_is_named_by_its_path(body: bytes, path: str) -> None:
    with pytest.raises(MalformedBody) as caught:
        StrictJSONParser().parse(io.BytesIO(body))

    assert caught.value.path == path


class Note(StrictSerializer):
    reason = serializers.CharField()
    lasts_s = serializers.FloatField(required=False)


@pytest.mark.parametrize(
    ("body", "kind"),
    [(None, "null"), ([], "a list"), ("x", "a text"), (True, "true or false"), (1, "a number")],
)
def test_a_body_that_is_no_object_is_told_which_fields_it_may_have(body: object, kind: str) -> None:
    with pytest.raises(serializers.ValidationError) as caught:
        Note(data=body).is_valid(raise_exception=True)

    assert f"the body must be an object with the fields reason, lasts_s, not {kind}" in str(
        caught.value
    )

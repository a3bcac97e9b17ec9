from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.jsondoc import (
    canonical_json,
    content_hash,
    format_path,
    merge_patch,
    parse_path,
)

KEYS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1)


def test_an_odd_key_is_quoted_in_a_path() -> None:
    parts = ("inbound", "endpoints", "POST /orders", "rate", "per_s")

    text = format_path(parts)

    assert text == 'inbound.endpoints["POST /orders"].rate.per_s'
    assert parse_path(text) == parts


@given(st.lists(KEYS, max_size=5).map(tuple))
def test_every_path_reads_back_as_it_was_written(parts: tuple[str, ...]) -> None:
    assert parse_path(format_path(parts)) == parts


@pytest.mark.parametrize("text", [".a", "a.", "a..b", 'a["b', "a b", 'a"b"', "[a]"])
def test_what_is_not_a_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        parse_path(text)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
    ids=lambda value: str(value),
)
def test_merging_follows_the_examples_of_rfc_7396(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


def test_merging_leaves_its_arguments_alone() -> None:
    target = {"a": {"b": [1]}}
    patch: dict[str, Any] = {"a": {"c": {"d": 1}}}

    merged = merge_patch(target, patch)
    merged["a"]["b"].append(2)
    merged["a"]["c"]["d"] = 2

    assert target == {"a": {"b": [1]}}
    assert patch == {"a": {"c": {"d": 1}}}


def test_a_hash_depends_on_neither_key_order_nor_the_spelling_of_whole_numbers() -> None:
    assert content_hash({"a": 1, "b": [2.0]}) == content_hash({"b": [2], "a": 1.0})
    assert content_hash({"a": 1e20}) == content_hash({"a": 100000000000000000000})
    assert canonical_json({"ä": True}) == '{"ä":true}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800"])
def test_what_json_cannot_say_has_no_canonical_form(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the encoder's own words)
        canonical_json({"a": value})

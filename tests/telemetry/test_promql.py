from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.telemetry.domain.dialects import native
from controlplane.telemetry.domain.dialects.native import Reading
from controlplane.telemetry.domain.promql import (
    any_of,
    equal,
    escape_regex,
    quote,
    rate,
    select,
    sum_by,
)

ANY_TEXT = st.text(st.characters(codec="utf-8"))
LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"\Z')


def unquoted(literal: str) -> str:
    """What Prometheus' lexer makes of a double-quoted literal."""
    escapes = {"\\\\": "\\", '\\"': '"', "\\n": "\n", "\\ufffd": "\ufffd"}
    return re.sub(r"\\(?:ufffd|.)", lambda found: escapes[found.group()], literal[1:-1])


@given(ANY_TEXT)
def test_a_quoted_value_is_one_literal_that_reads_back_as_itself(value: str) -> None:
    literal = quote(value)

    assert LITERAL.match(literal)
    assert unquoted(literal) == value


@given(ANY_TEXT, ANY_TEXT)
def test_an_escaped_pattern_matches_its_own_text_only(value: str, other: str) -> None:
    pattern = re.compile(escape_regex(value))

    assert pattern.fullmatch(value)
    assert bool(pattern.fullmatch(other)) == (other == value)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="valid Unicode"):
        quote("\ud800")


@pytest.mark.parametrize("name", ["", "1up", "a-b", "up{", "up\n", 'a"b', "ünicode"])
def test_a_metric_or_label_name_from_outside_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a metric name"):
        select(name)
    with pytest.raises(ValueError, match="not a label name"):
        equal(name, "x")


def test_expressions_compose() -> None:
    selected = select("up", equal("service", 'a"b'), any_of("job", ["x.y", "z"]))

    assert str(sum_by(("service",), rate(selected, 60))) == (
        'sum by (service) (rate(up{service="a\\"b",job=~"x\\\\.y|z"}[60s]))'
    )


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 s"):
        rate(select("up"), 0)


@pytest.mark.parametrize("reading", list(Reading))
def test_every_reading_asks_for_the_whole_environment_in_one_aggregated_query(
    reading: Reading,
) -> None:
    query = native.reading_query(reading, "prod", 60).text

    assert re.match(r"(sum|min|count) by \(service\b", query)
    assert 'environment="prod"' in query


@pytest.mark.parametrize(
    ("bound_s", "texts", "others"),
    [
        (0.5, ["0.5", "0.50"], ["0.05", "0.55", "5", "10.5"]),
        (1.0, ["1", "1.0", "1.00"], ["10", "1.5", "11"]),
        (10.0, ["10", "10.0"], ["1", "100", "1.0"]),
        (0.005, ["0.005"], ["0.05", "0.0055"]),
    ],
)
def test_every_way_of_writing_a_bound_is_matched(
    bound_s: float, texts: list[str], others: list[str]
) -> None:
    pattern = re.compile(native.le_pattern([bound_s]))

    assert all(pattern.fullmatch(text) for text in texts)
    assert not any(pattern.fullmatch(text) for text in others)

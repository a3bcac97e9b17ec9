"""Build PromQL from parts, so that no value from outside can change a query's meaning.

Names of metrics and labels are checked, label values are quoted. Expressions compose by
functions; there is no other way to make one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_REGEX_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_ESCAPES = {
    "\\": "\\\\",
    '"': '\\"',
    "\n": "\\n",
    # Prometheus' lexer takes a literal U+FFFD for broken UTF-8 and refuses the query.
    "\ufffd": "\\ufffd",
}


@dataclass(frozen=True, slots=True)
class Expression:
    """A piece of PromQL that is complete by itself."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label, already quoted."""

    text: str


class Aggregation(StrEnum):
    """How series are merged into one per group."""

    SUM = "sum"
    MIN = "min"
    COUNT = "count"


def quote(value: str) -> str:
    """Return `value` as a PromQL string literal.

    Raises:
        ValueError: the text holds half of a surrogate pair, which UTF-8 cannot carry.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("a label value must be valid Unicode text") from None
    return '"' + "".join(_ESCAPES.get(char, char) for char in value) + '"'


def equal(label: str, value: str) -> Matcher:
    """Match series whose `label` is exactly `value`."""
    return Matcher(_label(label) + "=" + quote(value))


def any_of(label: str, values: Iterable[str]) -> Matcher:
    """Match series whose `label` is one of `values`, each taken literally."""
    return Matcher(_label(label) + "=~" + quote("|".join(escape_regex(value) for value in values)))


def matching(label: str, pattern: str) -> Matcher:
    """Match series whose whole `label` matches the RE2 `pattern`, a constant of a dialect."""
    return Matcher(_label(label) + "=~" + quote(pattern))


def not_matching(label: str, pattern: str) -> Matcher:
    """Match series whose whole `label` does not match the RE2 `pattern`."""
    return Matcher(_label(label) + "!~" + quote(pattern))


def escape_regex(value: str) -> str:
    """Return an RE2 pattern that matches `value` and nothing else."""
    return _REGEX_SPECIAL.sub(lambda found: "\\" + found.group(), value)


def select(metric: str, *matchers: Matcher) -> Expression:
    """Select the series of `metric` that satisfy every matcher."""
    if not _METRIC.match(metric):
        raise ValueError("not a metric name: " + repr(metric))
    return Expression(metric + "{" + ",".join(matcher.text for matcher in matchers) + "}")


def rate(selected: Expression, window_s: int) -> Expression:
    """Per-second increase of each selected counter over the last `window_s`."""
    return _over_window("rate", selected, window_s)


def increase(selected: Expression, window_s: int) -> Expression:
    """Increase of each selected counter over the last `window_s`."""
    return _over_window("increase", selected, window_s)


def highest(selected: Expression, window_s: int) -> Expression:
    """Highest value of each selected gauge over the last `window_s`."""
    return _over_window("max_over_time", selected, window_s)


def aggregate(how: Aggregation, by: Iterable[str], inner: Expression) -> Expression:
    """Merge `inner` into one series per distinct combination of the `by` labels."""
    labels = ",".join(_label(name) for name in by)
    return Expression(str(how) + " by (" + labels + ") (" + inner.text + ")")


def sum_by(by: Iterable[str], inner: Expression) -> Expression:
    """Sum `inner` per combination of the `by` labels."""
    return aggregate(Aggregation.SUM, by, inner)


def _over_window(function: str, selected: Expression, window_s: int) -> Expression:
    if window_s < 1:
        raise ValueError("a window is at least 1 s")
    return Expression(function + "(" + selected.text + "[" + str(int(window_s)) + "s])")


def _label(name: str) -> str:
    if not _LABEL.match(name):
        raise ValueError("not a label name: " + repr(name))
    return name

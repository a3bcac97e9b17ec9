"""What every source of signals can do, and how it fails."""

from __future__ import annotations

from typing import Protocol

from controlplane.kernel.errors import TidegateError, Unavailable
from controlplane.telemetry.domain.promql import Expression
from controlplane.telemetry.domain.series import Grid, InstantAnswer, RangeAnswer


class SourceUnavailable(Unavailable):
    """The source does not answer, is overloaded, or was not asked because it fails."""

    code = "source-unavailable"
    title = "The source of signals does not answer"


class QueryRefused(TidegateError):
    """The source answered that it will not run this query; others may still work."""

    status = 502
    code = "query-refused"
    title = "The source refused a query"


class QueryFailed(SourceUnavailable):
    """This query got no answer, such as one that takes too long; others may still work."""

    code = "query-failed"
    title = "The source did not answer a query"


class SignalSource(Protocol):
    """Answers PromQL for one time, or for evenly spaced times. Safe to use from many threads."""

    name: str

    def instant(self, query: Expression, at_s: float) -> InstantAnswer:
        """Evaluate `query` at one time (unix seconds).

        Raises:
            SourceUnavailable: no answer; the sentence says what happened.
            QueryFailed: no answer to this query, which says nothing of others.
            QueryRefused: an answer, but not to this query.
        """
        ...

    def range(self, query: Expression, grid: Grid) -> RangeAnswer:
        """Evaluate `query` at every time of `grid`.

        Raises:
            SourceUnavailable: no answer; the sentence says what happened.
            QueryFailed: no answer to this query, which says nothing of others.
            QueryRefused: an answer, but not to this query.
        """
        ...

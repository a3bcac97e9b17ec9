"""A source that answers from what it is told: for tests and screenshots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock

from controlplane.kernel.errors import TidegateError
from controlplane.telemetry.domain.promql import Expression
from controlplane.telemetry.domain.series import Grid, InstantAnswer, RangeAnswer, Sample, Trace

Rows = Sequence[tuple[Mapping[str, str], float]]


class FakeSource:
    """Answers each query by the first key of `rows` that the query contains.

    A query that no key fits has no series. Set `failure` to fail every query with it, or
    `failures` to fail the queries that contain a key. `asked` lists every query.
    """

    name = "the fake source"

    def __init__(
        self,
        rows: Mapping[str, Rows] | None = None,
        *,
        warnings: tuple[str, ...] = (),
        value_at: Callable[[float, float], float | None] | None = None,
    ) -> None:
        self.rows: dict[str, Rows] = dict(rows or {})
        self.warnings = warnings
        self.is_partial = False
        self.failure: TidegateError | None = None
        self.failures: dict[str, TidegateError] = {}
        self.asked: list[str] = []
        self._value_at = value_at or (lambda _at_s, value: value)
        self._lock = Lock()

    def instant(self, query: Expression, at_s: float) -> InstantAnswer:
        """Answer with the rows that fit."""
        samples = tuple(
            Sample(labels, now)
            for labels, value in self._fitting(query)
            if (now := self._value_at(at_s, value)) is not None
        )
        return InstantAnswer(samples, self.warnings, self.is_partial)

    def range(self, query: Expression, grid: Grid) -> RangeAnswer:
        """Answer with the rows that fit, at every time of the grid."""
        traces = tuple(
            Trace(
                labels,
                tuple(
                    (float(at_s), then)
                    for at_s in grid.times
                    if (then := self._value_at(at_s, value)) is not None
                ),
            )
            for labels, value in self._fitting(query)
        )
        return RangeAnswer(traces, self.warnings, self.is_partial)

    def _fitting(self, query: Expression) -> Rows:
        with self._lock:
            self.asked.append(query.text)
        if self.failure is not None:
            raise self.failure
        for key, error in self.failures.items():
            if key in query.text:
                raise error
        return next((rows for key, rows in self.rows.items() if key in query.text), ())

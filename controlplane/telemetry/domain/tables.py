"""The answers of one tick, summed by the labels that matter and indexed by service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeVar

from controlplane.telemetry.domain.dialects import native
from controlplane.telemetry.domain.dialects.native import Reading
from controlplane.telemetry.domain.quantiles import bound_of
from controlplane.telemetry.domain.series import Sample

# A reading that Prometheus refused is absent; one without any series is an empty tuple.
Answers = Mapping[Reading, tuple[Sample, ...]]
Buckets = dict[float, float]
LabelKey = tuple[str, ...]
Row = TypeVar("Row")


class Tables:
    """What one tick measured, by service and then by the labels of each reading."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.services = {
            sample.labels.get(native.SERVICE, "")
            for samples in answers.values()
            for sample in samples
        } - {""}
        dependency = _key_of(native.DEPENDENCY)
        by_outcome = _key_of(native.DEPENDENCY, native.OUTCOME)
        reason = _key_of(native.REASON)
        self.requests = self._sums(Reading.REQUESTS, endpoint_key)
        self.errors = self._sums(Reading.ERRORS, endpoint_key)
        self.latency = self._histograms(Reading.LATENCY, endpoint_key)
        self.client_requests = self._sums(Reading.CLIENT_REQUESTS, by_outcome)
        self.client_attempts = self._sums(Reading.CLIENT_ATTEMPTS, by_outcome)
        self.breaker_calls = self._sums(Reading.BREAKER_CALLS, by_outcome)
        self.attempt_latency = self._histograms(Reading.ATTEMPT_LATENCY, dependency)
        self.exhausted = self._sums(Reading.BUDGET_EXHAUSTED, dependency)
        self.states = self._sums(Reading.BREAKER_STATES, _key_of(native.DEPENDENCY, native.STATE))
        self.rejected = self._sums(Reading.REJECTED, reason)
        self.would_reject = self._sums(Reading.WOULD_REJECT, reason)
        self.tenants = self._sums(Reading.TENANTS, _key_of(native.TENANT, native.OUTCOME))
        self.queue_wait = self._histograms(Reading.QUEUE_WAIT, _key_of())
        self._gauges = {
            reading: self._sums(reading, _key_of())
            for reading in (
                Reading.INFLIGHT,
                Reading.QUEUE_DEPTH,
                Reading.READY,
                Reading.INSTANCES,
                Reading.CONFIG_SEQUENCE,
            )
        }

    def answered(self, reading: Reading) -> bool:
        """Whether the source answered this reading, even if with no series at all."""
        return reading in self._answers

    def gauge(self, reading: Reading, service: str) -> float | None:
        """The one value of `reading` for `service`."""
        return self._gauges[reading].get(service, {}).get(())

    def _sums(
        self, reading: Reading, key: Callable[[Sample], LabelKey]
    ) -> dict[str, dict[LabelKey, float]]:
        table: dict[str, dict[LabelKey, float]] = defaultdict(dict)
        for sample in self._answers.get(reading, ()):
            row = table[sample.labels.get(native.SERVICE, "")]
            name = key(sample)
            row[name] = row.get(name, 0.0) + sample.value
        return dict(table)

    def _histograms(
        self, reading: Reading, key: Callable[[Sample], LabelKey]
    ) -> dict[str, dict[LabelKey, Buckets]]:
        table: dict[str, dict[LabelKey, Buckets]] = defaultdict(lambda: defaultdict(dict))
        for sample in self._answers.get(reading, ()):
            try:
                bound = bound_of(sample.labels.get(native.LE, ""))
            except ValueError:
                continue
            buckets = table[sample.labels.get(native.SERVICE, "")][key(sample)]
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
        return {service: dict(rows) for service, rows in table.items()}


def endpoint_key(sample: Sample) -> LabelKey:
    """("POST /orders",), or ("",) for requests that matched no route."""
    method = sample.labels.get(native.METHOD, "")
    route = sample.labels.get(native.ROUTE, "")
    return (method + " " + route,) if method and route else ("",)


def merge_buckets(rows: Mapping[LabelKey, Buckets]) -> Buckets:
    """Add histograms of the same bounds together."""
    merged: Buckets = {}
    for buckets in rows.values():
        for bound, value in buckets.items():
            merged[bound] = merged.get(bound, 0.0) + value
    return merged


def group(rows: Mapping[LabelKey, float]) -> dict[str, dict[str, float]]:
    """Turn {(dependency, outcome): value} into {dependency: {outcome: value}}."""
    grouped: dict[str, dict[str, float]] = defaultdict(dict)
    for (first, second), value in rows.items():
        grouped[first][second] = value
    return dict(grouped)


def _key_of(*labels: str) -> Callable[[Sample], LabelKey]:
    def key(sample: Sample) -> LabelKey:
        return tuple(sample.labels.get(label, "") for label in labels)

    return key

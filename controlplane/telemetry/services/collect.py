"""One tick of the collector: read every signal of the fleet, and share one picture of it.

The number of queries is fixed, whatever the number of services or viewers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

from django.conf import settings

from controlplane.kernel.clock import monotonic_s
from controlplane.telemetry.domain.assemble import assemble_services
from controlplane.telemetry.domain.dialects.native import Reading, fleet_queries
from controlplane.telemetry.domain.picture import (
    FleetPicture,
    picture_from_json,
    picture_to_json,
)
from controlplane.telemetry.domain.promql import Expression
from controlplane.telemetry.domain.series import InstantAnswer, Sample, aligned_time
from controlplane.telemetry.domain.status import CollectorStatus, status_to_json
from controlplane.telemetry.selectors import picture_key, read_status, status_key
from controlplane.telemetry.services.fleet import read_fleet
from controlplane.telemetry.services.history import history_grid, kept_histories, read_histories
from controlplane.telemetry.sources import shared_cache
from controlplane.telemetry.sources.port import (
    QueryFailed,
    QueryRefused,
    SignalSource,
    SourceUnavailable,
)

IN_FLIGHT = 4
KEEP_S = 7 * 86400  # an old picture, marked stale, is worth more than none
# A worker that dies in mid-tick holds the others up for this long, no longer.
LOCK_S = 20


def collect_fleet(*, environment: str, source: SignalSource, now: datetime) -> FleetPicture:
    """Read the fleet as of `now` and put its picture into the shared cache.

    A query that is refused, or gets no answer, leaves its figures missing and is named in
    `problems`; when the source does not answer at all, the last picture stays and the failure is
    recorded beside it.

    Raises:
        SourceUnavailable: no answer; nothing is replaced.
        CacheAway: the shared cache does not answer; nothing could be shared.
    """
    status = read_status(environment)
    counted = _Counted(source)
    try:
        picture = _take(environment, counted, now)
    except SourceUnavailable as error:
        failed = status.failed(at_s=now.timestamp(), reason=error.message, queries=counted.queries)
        _share_status(environment, failed)
        raise
    shared_cache.write(picture_key(environment), picture_to_json(picture), keep_s=KEEP_S)
    done = status.succeeded(
        at_s=now.timestamp(),
        taken_at=picture.taken_at,
        queries=picture.queries,
        query_seconds=picture.query_seconds,
    )
    # After the picture: who sees the new status must find the new picture.
    _share_status(environment, done)
    return picture


@contextmanager
def sole_collector(environment: str) -> Iterator[bool]:
    """Hold the right to collect; False while the previous tick still runs, which is counted.

    Raises:
        CacheAway: the shared cache does not answer.
    """
    key = "telemetry:collecting:" + environment
    mine = shared_cache.claim(key, for_s=LOCK_S)
    if not mine:
        _share_status(environment, read_status(environment).passed_over())
    try:
        yield mine
    finally:
        if mine:
            shared_cache.release(key)


class _Counted:
    """A source that counts its queries; each thread of a tick may use it."""

    def __init__(self, source: SignalSource) -> None:
        self.source = source
        self.queries = 0


def _take(environment: str, counted: _Counted, now: datetime) -> FleetPicture:
    tidegate = settings.TIDEGATE
    interval_s, lag_s = tidegate.collect_interval_s, tidegate.scrape_interval_s
    step_s = max(1, min(interval_s, round(lag_s)))
    taken_at = aligned_time(now.timestamp(), step_s, lag_s)
    started_s = monotonic_s()
    queries = fleet_queries(environment, tidegate.rate_window_s)
    answers, problems = _ask_all(counted, queries, taken_at)
    grid = history_grid(taken_at)
    histories = kept_histories(_previous(environment), grid)
    if histories is None:
        histories, more = read_histories(
            counted.source, environment, grid, window_s=tidegate.rate_window_s
        )
        counted.queries += 2
        problems += more
    query_seconds = monotonic_s() - started_s
    fleet = read_fleet(environment)
    return FleetPicture(
        environment=environment,
        taken_at=taken_at,
        collected_at=now.timestamp(),
        interval_s=interval_s,
        window_s=tidegate.rate_window_s,
        services=assemble_services(
            answers, registered=fleet.services, targets=fleet.targets, histories=histories
        ),
        queries=counted.queries,
        query_seconds=query_seconds,
        problems=tuple(dict.fromkeys((*problems, *fleet.problems))),
        history_end=grid.end_s,
        history_step_s=grid.step_s,
    )


def _ask_all(
    counted: _Counted, queries: Mapping[Reading, Expression], at_s: float
) -> tuple[dict[Reading, tuple[Sample, ...]], tuple[str, ...]]:
    """Every answer, and why others are missing.

    The first query goes alone, so that a dead source costs one time-out. A query that is refused
    or gets no answer costs its own figures: the rest of the fleet is worth more than a whole
    picture.

    Raises:
        SourceUnavailable: the source does not answer, or answers no query at all.
    """
    first, *rest = queries
    asked = _Asked()
    counted.queries += 1
    asked.keep(first, lambda: counted.source.instant(queries[first], at_s))
    counted.queries += len(rest)
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="collect") as threads:
        futures: dict[Reading, Future[InstantAnswer]] = {
            reading: threads.submit(counted.source.instant, queries[reading], at_s)
            for reading in rest
        }
        try:
            for reading, future in futures.items():
                asked.keep(reading, future.result)
        except SourceUnavailable:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    if not asked.answers and asked.failure is not None:
        raise asked.failure
    return asked.answers, tuple(asked.problems)


class _Asked:
    """What became of the queries of one tick so far."""

    def __init__(self) -> None:
        self.answers: dict[Reading, tuple[Sample, ...]] = {}
        self.problems: list[str] = []
        self.failure: QueryFailed | None = None

    def keep(self, reading: Reading, ask: Callable[[], InstantAnswer]) -> None:
        """Note one answer, or why there is none.

        Raises:
            SourceUnavailable: the source does not answer, whatever it is asked.
        """
        try:
            answer = ask()
        except QueryFailed as failure:
            self.failure = self.failure or failure
            self.problems.append(_named(reading, failure.message))
            return
        except QueryRefused as refusal:
            self.problems.append(_named(reading, refusal.message))
            return
        self.answers[reading] = answer.samples
        self.problems.extend(_named(reading, note) for note in answer.warnings)


def _named(reading: Reading, problem: str) -> str:
    """ "attempt latency: Prometheus gave a query up (timeout)"."""
    return reading.value.replace("_", " ") + ": " + problem


def _previous(environment: str) -> FleetPicture | None:
    body = shared_cache.read(picture_key(environment))
    if body is None:
        return None
    try:
        return picture_from_json(body)
    except ValueError:
        return None


def _share_status(environment: str, status: CollectorStatus) -> None:
    shared_cache.write(status_key(environment), status_to_json(status), keep_s=KEEP_S)

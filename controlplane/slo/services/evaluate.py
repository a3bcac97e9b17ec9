"""Count good and all requests per objective and minute, with a fixed number of queries."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Min, Sum
from django.db.models.functions import TruncHour

from controlplane.registry.models import Environment
from controlplane.slo.domain.objective import Kind
from controlplane.slo.models import BudgetSlice, Evaluation, Objective
from controlplane.telemetry.domain.dialects import native
from controlplane.telemetry.domain.quantiles import bound_of
from controlplane.telemetry.domain.series import Grid, RangeAnswer, aligned_time
from controlplane.telemetry.sources.port import QueryRefused, SignalSource

MINUTE_S = BudgetSlice.MINUTE_S
CATCH_UP = timedelta(hours=6)  # after an outage, no further back than this
CHUNK_S = 60 * MINUTE_S  # at most this much per query, so that catching up is no load peak
MINUTES_KEPT = timedelta(hours=8)  # more than CATCH_UP: a rolled-up hour never changes again
HOURS_KEPT = timedelta(days=91)  # the longest window and a day

Counted = dict[tuple[str, int], float]  # by service and minute's end


@dataclass(frozen=True, slots=True)
class _Measured:
    """What the three queries of one run counted."""

    total: Counted
    faults: Counted
    fast: Mapping[float, Counted]  # by bound in seconds


def evaluate(*, environment: Environment, source: SignalSource, now: datetime) -> int:
    """Count every minute up to `now` that is not counted yet; return how many slices it wrote.

    Three queries, or three per hour that is due: oldest first, and after an outage no further
    back than CATCH_UP. Harmless to repeat: a minute counted twice is written once. Minutes
    without traffic or without data leave no slice.

    Raises:
        SourceUnavailable: no answer; the minutes stay due.
        QueryRefused: an answer, but not to this query, or a partial one; the minutes stay due.
    """
    objectives = list(
        Objective.objects.filter(service__environment=environment).select_related("service")
    )
    written = 0
    while objectives and (grid := _due(environment, now)) is not None:
        written += _count_minutes(source, environment, objectives, grid)
    return written


def roll_up(*, now: datetime) -> int:
    """Merge minutes older than MINUTES_KEPT into hours; return how many hours it wrote.

    Sums of counts are exact, so no figure changes, except that windows then move by the hour.
    """
    before = (now - MINUTES_KEPT).replace(minute=0, second=0, microsecond=0)
    old = BudgetSlice.objects.filter(length_s=MINUTE_S, start__lt=before)
    with transaction.atomic():
        hours = [
            BudgetSlice(
                objective_id=row["objective_id"],
                start=row["hour"],
                length_s=BudgetSlice.HOUR_S,
                good=min(row["good_sum"], row["total_sum"]),
                total=row["total_sum"],
            )
            for row in old.annotate(hour=TruncHour("start", tzinfo=UTC))
            .order_by()
            .values("objective_id", "hour")
            .annotate(good_sum=Sum("good"), total_sum=Sum("total"))
        ]
        BudgetSlice.objects.bulk_create(
            hours,
            batch_size=500,
            update_conflicts=True,
            unique_fields=["objective", "length_s", "start"],
            update_fields=["good", "total"],
        )
        old.delete()
        BudgetSlice.objects.filter(length_s=BudgetSlice.HOUR_S, start__lt=now - HOURS_KEPT).delete()
    return len(hours)


def is_roll_up_due(now: datetime) -> bool:
    """Whether an hour's worth of minutes is old enough to be merged; one indexed query."""
    oldest = BudgetSlice.objects.filter(length_s=MINUTE_S).aggregate(start=Min("start"))["start"]
    return oldest is not None and oldest < now - MINUTES_KEPT - timedelta(hours=1)


def _due(environment: Environment, now: datetime) -> Grid | None:
    """The ends of the minutes to count; None when all are counted."""
    newest_s = aligned_time(now.timestamp(), MINUTE_S, settings.TIDEGATE.scrape_interval_s)
    oldest_s = newest_s - int(CATCH_UP.total_seconds())
    evaluation = Evaluation.objects.filter(environment=environment).first()
    counted_s = oldest_s if evaluation is None else int(evaluation.counted_until.timestamp())
    first_s = max(counted_s, oldest_s) + MINUTE_S
    if first_s > newest_s:
        return None
    return Grid(first_s, min(newest_s, first_s + CHUNK_S - MINUTE_S), MINUTE_S)


def _count_minutes(
    source: SignalSource, environment: Environment, objectives: Sequence[Objective], grid: Grid
) -> int:
    measured = _measure(source, environment.slug, objectives, grid)
    slices = [made for objective in objectives for made in _slices_of(objective, measured, grid)]
    with transaction.atomic():
        BudgetSlice.objects.bulk_create(
            slices,
            batch_size=500,
            update_conflicts=True,
            unique_fields=["objective", "length_s", "start"],
            update_fields=["good", "total"],
        )
        Evaluation.objects.update_or_create(
            environment=environment, defaults={"counted_until": _at(grid.end_s)}
        )
    return len(slices)


def _measure(
    source: SignalSource, environment: str, objectives: Sequence[Objective], grid: Grid
) -> _Measured:
    bounds_s = {
        objective.threshold_ms / 1000
        for objective in objectives
        if objective.threshold_ms is not None
    } or {native.BUCKET_BOUNDS_S[-1]}
    window_s = counting_window_s(settings.TIDEGATE.scrape_interval_s)
    total, faults, fast = (
        _whole(source.range(query, grid))
        for query in native.increase_queries(environment, window_s, bounds_s)
    )
    share = MINUTE_S / window_s
    by_bound: dict[float, Counted] = {}
    for trace in fast.traces:
        counted = by_bound.setdefault(bound_of(trace.labels.get(native.LE, "inf")), {})
        service = trace.labels.get(native.SERVICE, "")
        for at_s, value in trace.points:
            key = (service, round(at_s))
            counted[key] = counted.get(key, 0.0) + value * share
    return _Measured(_by_service(total, share), _by_service(faults, share), by_bound)


def counting_window_s(scrape_interval_s: float) -> int:
    """Over how many seconds the requests of one minute are measured: whole minutes, at least one.

    Four scrapes, as of rates on pages: `increase` needs two samples in its window, and one scrape
    may be missed. A minute's count is then its share of that window, so that requests move by a
    few minutes between slices, and none is counted twice or not at all.
    """
    return MINUTE_S * max(1, math.ceil(4 * scrape_interval_s / MINUTE_S))


def _whole(answer: RangeAnswer) -> RangeAnswer:
    """Return the answer, unless the source left something out of it.

    Raises:
        QueryRefused: it did; what is missing would look like requests that nobody made.
    """
    if answer.is_partial:
        raise QueryRefused("The counts are partial and not used: " + " ".join(answer.warnings))
    return answer


def _by_service(answer: RangeAnswer, share: float) -> Counted:
    return {
        (trace.labels.get(native.SERVICE, ""), round(at_s)): value * share
        for trace in answer.traces
        for at_s, value in trace.points
    }


def _slices_of(objective: Objective, measured: _Measured, grid: Grid) -> Iterator[BudgetSlice]:
    for end_s in grid.times:
        key = (objective.service.slug, end_s)
        counted = _count(objective, measured, key)
        if counted is None or counted[1] <= 0:
            continue
        good, total = counted
        # Increases are extrapolated series by series: a sum may pass the other by a hair.
        yield BudgetSlice(
            objective=objective,
            start=_at(end_s - MINUTE_S),
            length_s=MINUTE_S,
            good=min(max(good, 0.0), total),
            total=total,
        )


def _count(
    objective: Objective, measured: _Measured, key: tuple[str, int]
) -> tuple[float, float] | None:
    """Good and all requests of one minute; None when they were not measured."""
    total = measured.total.get(key)
    if total is None:
        return None
    served = total - measured.faults.get(key, 0.0)
    if objective.kind == Kind.AVAILABILITY or objective.threshold_ms is None:
        return served, total
    fast = measured.fast.get(objective.threshold_ms / 1000, {}).get(key)
    return None if fast is None else (fast, served)


def _at(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)

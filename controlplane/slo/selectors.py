"""How much of each service's error budgets is left, and how fast it goes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Min, Q, Sum

from controlplane.kernel.clock import utc_now
from controlplane.slo.domain.budget import Counts, budget_remaining, coverage_text
from controlplane.slo.domain.burn import (
    LONG_WINDOW,
    SHORT_WINDOW,
    BurnState,
    burn_rate,
    burn_state,
    confirmed_burn,
    hours_to_exhaustion,
)
from controlplane.slo.domain.objective import objective_name
from controlplane.slo.models import BudgetSlice, Evaluation, Objective


@dataclass(frozen=True, slots=True)
class ObjectiveStatus:
    """One objective now. Figures are None without traffic.

    `budget_remaining` is below 0 when more than the budget is spent. `covered_s` is how much
    of the window has been counted at all; `coverage` says so in words.
    """

    name: str
    kind: str
    target: float
    threshold_ms: float | None
    window_days: int
    budget_remaining: float | None
    burn_1h: float | None
    burn_5m: float | None
    confirmed_burn: float | None
    hours_left: float | None
    total: float
    bad: float
    state: BurnState
    covered_s: float
    coverage: str


@dataclass(frozen=True, slots=True)
class SloStatus:
    """All objectives of one service, and the worst of their figures.

    `worst_burn` is the highest burn rate that the last hour proves and the last five minutes
    confirm, so that one failure of a quiet service is no alarm.
    """

    objectives: tuple[ObjectiveStatus, ...]
    worst_remaining: float | None
    worst_burn: float | None


def service_status(environment: str, now: datetime | None = None) -> dict[str, SloStatus]:
    """Return the objectives of every service that has some, by service name.

    Three queries and one per length of window in use, whatever the number of services; the
    counts are added up by the database.

    Args:
        now: the time to judge at; the present when left out.
    """
    at = now or utc_now()
    objectives = list(
        Objective.objects.filter(service__environment__slug=environment)
        .select_related("service")
        .order_by("service__slug", "kind")
    )
    lengths = {objective.window_days for objective in objectives}
    budgets = {days: _budgets(environment, at - timedelta(days=days)) for days in lengths}
    recent = _recent(environment, _end_of_recent(environment, at))
    by_service: dict[str, list[ObjectiveStatus]] = {}
    for objective in objectives:
        budget = budgets[objective.window_days].get(objective.pk, _Budget(Counts(), None))
        long, short = recent.get(objective.pk, (Counts(), Counts()))
        status = _status(objective, budget, long, short, at)
        by_service.setdefault(objective.service.slug, []).append(status)
    return {name: _summary(statuses) for name, statuses in by_service.items()}


@dataclass(frozen=True, slots=True)
class _Budget:
    """Counts of a whole window, and when counting began within it."""

    counts: Counts
    since: datetime | None


def _budgets(environment: str, since: datetime) -> dict[int, _Budget]:
    rows = (
        BudgetSlice.objects.filter(
            objective__service__environment__slug=environment, start__gte=since
        )
        .order_by()
        .values("objective_id")
        .annotate(good_sum=Sum("good"), total_sum=Sum("total"), since=Min("start"))
    )
    return {
        row["objective_id"]: _Budget(_counts(row["good_sum"], row["total_sum"]), row["since"])
        for row in rows
    }


def _recent(environment: str, end: datetime) -> dict[int, tuple[Counts, Counts]]:
    """Counts of the long and the short window up to `end`."""
    is_short = Q(start__gte=end - SHORT_WINDOW)
    rows = (
        BudgetSlice.objects.filter(
            objective__service__environment__slug=environment,
            length_s=BudgetSlice.MINUTE_S,
            start__gte=end - LONG_WINDOW,
            start__lt=end,
        )
        .order_by()
        .values("objective_id")
        .annotate(
            good_long=Sum("good"),
            total_long=Sum("total"),
            good_short=Sum("good", filter=is_short),
            total_short=Sum("total", filter=is_short),
        )
    )
    return {
        row["objective_id"]: (
            _counts(row["good_long"], row["total_long"]),
            _counts(row["good_short"], row["total_short"]),
        )
        for row in rows
    }


def _end_of_recent(environment: str, at: datetime) -> datetime:
    """The last counted minute's end: the newest minutes are not in yet.

    When counting has stopped, the present: an hour that nobody counted shows no burn.
    """
    evaluation = Evaluation.objects.filter(environment__slug=environment).first()
    if evaluation is None or at - evaluation.counted_until > SHORT_WINDOW:
        return at
    return evaluation.counted_until


def _status(
    objective: Objective, budget: _Budget, long: Counts, short: Counts, at: datetime
) -> ObjectiveStatus:
    target, days = objective.target, objective.window_days
    remaining = budget_remaining(budget.counts, target)
    burn_1h = burn_rate(long, target)
    covered_s = 0.0 if budget.since is None else (at - budget.since).total_seconds()
    return ObjectiveStatus(
        name=objective_name(objective.kind, objective.threshold_ms),
        kind=objective.kind,
        target=target,
        threshold_ms=objective.threshold_ms,
        window_days=days,
        budget_remaining=remaining,
        burn_1h=burn_1h,
        burn_5m=burn_rate(short, target),
        confirmed_burn=confirmed_burn(long, short, target),
        hours_left=hours_to_exhaustion(remaining, burn_1h, days),
        total=budget.counts.total,
        bad=budget.counts.bad,
        state=burn_state(long, short, target=target, window_days=days, remaining=remaining),
        covered_s=covered_s,
        coverage=coverage_text(covered_s, days),
    )


def _summary(statuses: list[ObjectiveStatus]) -> SloStatus:
    remaining = [
        status.budget_remaining for status in statuses if status.budget_remaining is not None
    ]
    burns = [status.confirmed_burn for status in statuses if status.confirmed_burn is not None]
    return SloStatus(
        objectives=tuple(statuses),
        worst_remaining=min(remaining, default=None),
        worst_burn=max(burns, default=None),
    )


def _counts(good: float | None, total: float | None) -> Counts:
    return Counts(total or 0.0, max(0.0, (total or 0.0) - (good or 0.0)))

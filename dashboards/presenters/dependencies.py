"""Dependencies of one service: breaker, failure and slow-call ratios against their thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.policies.selectors import effective_policy
from controlplane.registry.selectors import get_service, list_service_headings
from controlplane.telemetry.domain.picture import DependencySignals
from controlplane.telemetry.selectors import read_picture
from controlplane.telemetry.services.ranges import read_breaker_timeline
from dashboards.charts.geometry import Bar, Slice, bar, timeline
from dashboards.presenters import tones
from dashboards.presenters.freshness import Freshness, freshness_of
from dashboards.presenters.service import signals_of
from dashboards.presenters.states import BreakerMark, breaker_mark

TIMELINE_S = 3600
# What the SDK says of attempts that failed, in words.
FAILURES = {
    "timeout": "time-outs",
    "deadline": "cut off by the caller's deadline",
    "connect_error": "connection errors",
    "error": "error statuses",
    "limited": "429",
}


@dataclass(frozen=True, slots=True)
class FailurePart:
    """One way to fail, and its share of all attempts."""

    name: str
    ratio: float


@dataclass(frozen=True, slots=True)
class DependencyRow:
    """One dependency."""

    name: str
    is_service: bool
    breaker: BreakerMark | None
    mode: str
    signals: DependencySignals
    failure_bar: Bar | None
    failure_threshold: float
    failures: tuple[FailurePart, ...]
    timeout_note: str
    slow_bar: Bar | None
    slow_threshold: float
    attempts_tone: str
    p99_tone: str
    retry_budget: float
    max_attempts: int
    attempt_ms: int
    timeline: tuple[Slice, ...]
    timeline_summary: str


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The region with all dependencies of one service."""

    service_slug: str
    rows: tuple[DependencyRow, ...]
    freshness: Freshness
    timeline_state: str
    timeline_reason: str


def present_dependencies(*, environment: str, service_slug: str, now: datetime) -> Dependencies:
    """List registered dependencies, and those that the policy or the metrics know.

    Raises:
        NotFound: no such service.
    """
    service = get_service(environment, service_slug)
    read = read_picture(environment, now)
    signals = signals_of(read, service_slug)
    outbound = effective_policy(service, now).policy["outbound"]
    history = read_breaker_timeline(environment, service_slug, range_s=TIMELINE_S, now=now)
    names = {each.name for each in service.dependencies.all()}
    names |= set(signals.dependencies) | set(outbound["dependencies"])
    known = {each.slug for each in list_service_headings(environment)}
    end_s = now.timestamp()
    slices = {
        row.dependency: timeline(
            [(step.at_s, step.state) for step in row.steps],
            start=end_s - TIMELINE_S,
            end=end_s,
            step_s=history.step_s,
        )
        for row in history.rows
    }
    return Dependencies(
        service_slug=service_slug,
        rows=tuple(
            _row(
                name,
                name in known,
                signals.dependencies.get(name),
                outbound["dependencies"].get(name, outbound["defaults"]),
                slices.get(name, ()),
            )
            for name in sorted(names)
        ),
        freshness=freshness_of(read),
        timeline_state=history.state,
        timeline_reason=history.reason,
    )


def _row(
    name: str,
    is_service: bool,
    signals: DependencySignals | None,
    policy: Mapping[str, Any],
    slices: tuple[Slice, ...],
) -> DependencyRow:
    seen = signals or DependencySignals()
    breaker = policy["breaker"]
    failure_rate, slow_rate = float(breaker["failure_rate"]), float(breaker["slow_call_rate"])
    return DependencyRow(
        name=name,
        is_service=is_service,
        breaker=breaker_mark(name, seen.breaker_states),
        mode=str(breaker["mode"]),
        signals=seen,
        failure_bar=bar(
            seen.failure_ratio, tone=_tone(seen.failure_ratio, failure_rate), tick=failure_rate
        ),
        failure_threshold=failure_rate,
        failures=_failures(seen),
        timeout_note=_timeout_note(seen, int(policy["timeouts"]["attempt_ms"])),
        slow_bar=bar(seen.slow_ratio, tone=_tone(seen.slow_ratio, slow_rate), tick=slow_rate),
        slow_threshold=slow_rate,
        attempts_tone=tones.attempts_tone(seen.attempts_per_request),
        p99_tone=tones.latency_tone(seen.p99),
        retry_budget=float(policy["retry"]["budget"]["ratio"]),
        max_attempts=int(policy["retry"]["max_attempts"]),
        attempt_ms=int(policy["timeouts"]["attempt_ms"]),
        timeline=slices,
        timeline_summary=_timeline_summary(slices),
    )


def _failures(seen: DependencySignals) -> tuple[FailurePart, ...]:
    """How attempts fail, the commonest first."""
    parts = [
        FailurePart(FAILURES.get(outcome, outcome.replace("_", " ")), share)
        for outcome, share in seen.failures.items()
    ]
    return tuple(sorted(parts, key=lambda part: (-part.ratio, part.name)))


def _timeout_note(seen: DependencySignals, attempt_ms: int) -> str:
    """A word when the attempt timeout cuts off more than one attempt in twenty; else empty."""
    if seen.p95 is None or seen.p95.seconds * 1000 <= attempt_ms:
        return ""
    return f"the attempt timeout of {attempt_ms:,} ms lies below p95"


def _tone(value: float | None, threshold: float) -> str:
    if value is None or threshold <= 0:
        return tones.CALM
    return tones.BAD if value >= threshold else tones.WARN if value >= threshold / 2 else tones.CALM


def _timeline_summary(slices: tuple[Slice, ...]) -> str:
    """ "open 21% of the last hour": what a screen reader says of the timeline."""
    if not slices:
        return "no history"
    shares: dict[str, float] = {}
    for each in slices:
        shares[each.state] = shares.get(each.state, 0) + each.width
    worst = [
        f"{state.replace('_', ' ')} {share:.0f}%" for state, share in shares.items() if share >= 0.5
    ]
    return f"last hour: {', '.join(worst)}"

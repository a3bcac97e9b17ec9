"""The region with recent publications: each as a curve of the instances that enforce it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.delivery.domain.convergence import Convergence, Phase
from controlplane.delivery.selectors import PublicationRow, list_recent_publications
from dashboards.charts.propagation import Curve, Mark, axis, curve
from dashboards.presenters.change_words import cause_words
from dashboards.presenters.freshness import Freshness
from dashboards.presenters.reports import read_reports
from dashboards.presenters.states import StatePill

PAGE_SIZE = 12
QUICK_UP_TO = 1_000  # instances: beyond, reading every answer each second costs more than it tells

_LOOK = {
    Phase.CONVERGING: ("info", "◌", "converging"),
    Phase.CONVERGED: ("ok", "●", "converged"),
    Phase.REJECTED: ("crit", "▲", "rejected"),
    Phase.UNANSWERED: ("warn", "◆", "unanswered"),
    Phase.NOBODY: ("quiet", "○", "no live instance"),
}


@dataclass(frozen=True, slots=True)
class PublicationLine:
    """One publication in the list."""

    sequence: int
    service: str
    cohort: str
    words: str
    actor: str
    reason: str
    at: datetime
    state: StatePill
    curve: Curve
    label: str
    live: int
    applied: int
    rejected: int
    silent: int
    p50_s: float | None
    p99_s: float | None
    slowest: str
    superseded_by: int | None


@dataclass(frozen=True, slots=True)
class Publications:
    """The region: one page of publications, newest first."""

    environment: str
    freshness: Freshness | None
    service: str
    rows: tuple[PublicationLine, ...]
    axis: tuple[Mark, ...]
    next_before: int | None
    is_first_page: bool
    every: str

    @property
    def is_old(self) -> bool:
        """Whether figures must look old."""
        return self.freshness is not None and self.freshness.is_old


def present_publications(
    *, environment: str, service: str, before: int | None, now: datetime
) -> Publications:
    """List one page of publications; five queries, however many there are."""
    reports = read_reports(environment, now)
    found = list_recent_publications(
        environment,
        service=service or None,
        before_sequence=before,
        limit=PAGE_SIZE + 1,
        now=reports.as_of,
    )
    shown = found[:PAGE_SIZE]
    moving = [row for row in shown if row.phase is Phase.CONVERGING]
    largest = max((row.convergence.live for row in moving), default=0)
    return Publications(
        environment=environment,
        freshness=reports.freshness,
        service=service,
        rows=tuple(present_line(row, reports.as_of) for row in shown),
        axis=axis(),
        next_before=shown[-1].sequence if len(found) > PAGE_SIZE else None,
        is_first_page=before is None,
        every="1s" if moving and largest <= QUICK_UP_TO else "5s",
    )


def present_line(row: PublicationRow, now: datetime) -> PublicationLine:
    """Draw one publication."""
    found = row.convergence
    return PublicationLine(
        sequence=row.sequence,
        service=row.service,
        cohort=row.cohort,
        words=cause_words(row.cause, row.version_number),
        actor=row.actor,
        reason=row.reason,
        at=row.issued_at,
        state=phase_pill(row),
        curve=draw_curve(found, now),
        label=_label(found),
        live=found.live,
        applied=found.applied,
        rejected=len(found.rejected),
        silent=len(found.silent),
        p50_s=found.p50_s,
        p99_s=found.p99_s,
        slowest=_slowest(found),
        superseded_by=row.superseded_by,
    )


def phase_pill(row: PublicationRow) -> StatePill:
    """Say where a publication is on its way, and on how many instances it is not."""
    tone, shape, word = _LOOK[row.phase]
    found = row.convergence
    match row.phase:
        case Phase.REJECTED:
            word = f"rejected by {len(found.rejected)}"
        case Phase.UNANSWERED:
            word = f"{len(found.silent)} unanswered"
        case Phase.CONVERGING if found.rejected:
            tone, shape, word = "crit", "▲", f"converging, rejected by {len(found.rejected)}"
    return StatePill(tone, shape, word)


def draw_curve(found: Convergence, now: datetime) -> Curve:
    """Draw how many instances had it over time, out of those it concerned."""
    concerned = found.apply.count + len(found.rejected) + len(found.silent)
    return curve(
        applied_s=found.apply.took_s,
        fetched_s=found.fetch.took_s,
        concerned=max(concerned, found.fetch.count),
        rejected=len(found.rejected),
        p50_s=found.p50_s,
        p99_s=found.p99_s,
        age_s=max(0.0, (now - found.published_at).total_seconds()),
    )


def _label(found: Convergence) -> str:
    parts = [f"{found.applied} of {found.live} live instances enforce it"]
    if found.p50_s is not None and found.p99_s is not None:
        parts.append(f"half within {found.p50_s:.2f} s, 99% within {found.p99_s:.2f} s")
    if found.rejected:
        parts.append(f"{len(found.rejected)} rejected it")
    if found.silent:
        parts.append(f"{len(found.silent)} have not answered")
    return "; ".join(parts)


def _slowest(found: Convergence) -> str:
    return found.laggards[0].instance_id if found.laggards and found.live > 1 else ""

"""The page of one publication: every instance from published over fetched to applied."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.delivery.domain.convergence import FOLLOWED_FOR, Phase, Propagation
from controlplane.delivery.domain.progress import InstanceProgress, Progress
from controlplane.delivery.selectors import PublicationSpread, follow_publication
from controlplane.registry.selectors import list_service_headings
from dashboards.charts.propagation import Journey, Mark, axis, journey
from dashboards.presenters.freshness import Freshness
from dashboards.presenters.publications import QUICK_UP_TO, PublicationLine, present_line
from dashboards.presenters.reports import read_reports
from dashboards.presenters.states import StatePill

PAGE_SIZE = 50

_LOOK = {
    Progress.REJECTED: ("crit", "▲", "rejected"),
    Progress.SILENT: ("quiet", "◌", "silent"),
    Progress.FETCHED: ("info", "◐", "fetched, not applied"),
    Progress.WAITING: ("info", "○", "not fetched yet"),
    Progress.APPLIED: ("ok", "●", "applied"),
    Progress.PASSED: ("ok", "●", "on a later one"),
    Progress.JOINED_LATER: ("ok", "●", "started later"),
}


@dataclass(frozen=True, slots=True)
class InstanceLine:
    """One instance of the publication."""

    instance_id: str
    state: StatePill
    journey: Journey
    label: str
    fetch_s: float | None
    apply_s: float | None
    reject_s: float | None
    reason: str
    enforces: int | None
    seen_s: float | None
    is_live: bool


@dataclass(frozen=True, slots=True)
class LaggardLine:
    """One of the slowest."""

    instance_id: str
    late_s: float
    has_applied: bool


@dataclass(frozen=True, slots=True)
class PublicationView:
    """The region that follows one publication, with one page of its instances."""

    environment: str
    freshness: Freshness | None
    line: PublicationLine
    is_registered: bool
    sentence: str
    fetched: int
    fetch: Propagation
    apply: Propagation
    laggards: tuple[LaggardLine, ...]
    rows: tuple[InstanceLine, ...]
    axis: tuple[Mark, ...]
    total: int
    page: int
    pages: int
    is_final: bool
    every: str

    @property
    def is_old(self) -> bool:
        """Whether figures must look old."""
        return self.freshness is not None and self.freshness.is_old


def present_publication(
    *, environment: str, sequence: int, page: int, now: datetime
) -> PublicationView:
    """Follow one publication of a service.

    Raises:
        NotFound: the environment has no publication of a service with that sequence.
    """
    reports = read_reports(environment, now)
    as_of = reports.as_of
    spread = follow_publication(environment, sequence, now=as_of)
    found = spread.row.convergence
    pages = max(1, -(-len(spread.instances) // PAGE_SIZE))
    page = min(max(page, 1), pages)
    shown = spread.instances[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    registered = {service.slug for service in list_service_headings(environment)}
    is_old = reports.freshness is not None and reports.freshness.is_old
    return PublicationView(
        environment=environment,
        freshness=reports.freshness,
        line=present_line(spread.row, as_of),
        is_registered=spread.row.service in registered,
        sentence=_sentence(spread),
        fetched=found.fetched,
        fetch=found.fetch,
        apply=found.apply,
        laggards=tuple(
            LaggardLine(each.instance_id, each.late_s, each.has_applied) for each in found.laggards
        )
        if found.live > 1
        else (),
        rows=tuple(_row(each, found.published_at, as_of) for each in shown),
        axis=axis(),
        total=len(spread.instances),
        page=page,
        pages=pages,
        is_final=not is_old and _is_final(spread, as_of),
        every="1s" if spread.row.phase is Phase.CONVERGING and found.live <= QUICK_UP_TO else "5s",
    )


def _is_final(spread: PublicationSpread, now: datetime) -> bool:
    """Say whether nothing of it will change: everybody has it, or it was replaced a while ago."""
    if spread.row.phase is Phase.CONVERGED:
        return True
    is_replaced = spread.row.superseded_by is not None
    return is_replaced and now - spread.row.issued_at > FOLLOWED_FOR


def _sentence(spread: PublicationSpread) -> str:
    found = spread.row.convergence
    if not found.live:
        return "No live instance: it takes effect when one starts and asks for its policy."
    noun = "instance" if found.live == 1 else "instances"
    verb = "enforces" if found.applied == 1 else "enforce"
    later = " or a later one" if spread.row.superseded_by else ""
    return f"{found.applied} of {found.live} live {noun} {verb} it{later}."


def _row(each: InstanceProgress, published_at: datetime, now: datetime) -> InstanceLine:
    waits = each.is_live and each.progress in (Progress.FETCHED, Progress.WAITING)
    return InstanceLine(
        instance_id=each.instance_id,
        state=_pill(each),
        journey=journey(
            fetch_s=each.fetch_s,
            apply_s=each.apply_s,
            reject_s=each.reject_s,
            waits_s=max(0.0, (now - published_at).total_seconds()) if waits else None,
        ),
        label=_label(each),
        fetch_s=each.fetch_s,
        apply_s=each.apply_s,
        reject_s=each.reject_s,
        reason=each.reason,
        enforces=each.enforces,
        seen_s=None if each.last_seen_at is None else (now - each.last_seen_at).total_seconds(),
        is_live=each.is_live,
    )


def _pill(each: InstanceProgress) -> StatePill:
    tone, shape, word = _LOOK[each.progress]
    if each.progress is Progress.APPLIED and not each.is_live:
        return StatePill("quiet", shape, "applied, gone since")
    return StatePill(tone, shape, word)


def _label(each: InstanceProgress) -> str:
    steps = [
        f"{word} after {seconds:.2f} s"
        for word, seconds in (
            ("fetched", each.fetch_s),
            ("rejected", each.reject_s),
            ("applied", each.apply_s),
        )
        if seconds is not None
    ]
    return ", ".join(steps) or "nothing heard of it"

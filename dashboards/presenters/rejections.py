"""The banner over Fleet, Service and Tune while instances reject what they should enforce."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.delivery.domain.drift import Rejection
from controlplane.delivery.selectors import list_rejections

SHOWN = 5
NAMED = 3


@dataclass(frozen=True, slots=True)
class RejectionLine:
    """One service, one publication, one reason."""

    service: str
    sequence: int
    has_page: bool
    count: int
    live: int
    reason: str
    named: tuple[str, ...]
    more: int
    for_s: float


@dataclass(frozen=True, slots=True)
class Rejections:
    """The region; of one service when `service` is not empty."""

    environment: str
    service: str
    rows: tuple[RejectionLine, ...]
    more: int


def present_rejections(*, environment: str, service: str, now: datetime) -> Rejections:
    """List rejections, of all services when `service` is empty; three queries."""
    found = list_rejections(environment, service or None, now=now)
    return Rejections(
        environment=environment,
        service=service,
        rows=tuple(_line(each, now) for each in found[:SHOWN]),
        more=max(0, len(found) - SHOWN),
    )


def _line(each: Rejection, now: datetime) -> RejectionLine:
    return RejectionLine(
        service=each.service,
        sequence=each.sequence,
        has_page=each.has_own_publication,
        count=len(each.instances),
        live=each.live,
        reason=each.reason,
        named=each.instances[:NAMED],
        more=max(0, len(each.instances) - NAMED),
        for_s=(now - each.since).total_seconds(),
    )

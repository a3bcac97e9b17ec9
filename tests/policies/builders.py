"""What tests of policies share: short ways to open, publish and read back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from controlplane.access.models import AuditEntry
from controlplane.policies.models import (
    Canary,
    Override,
    PolicyVersion,
    Publication,
    SequenceCounter,
)
from controlplane.policies.services import (
    end_canary,
    open_override,
    promote_canary,
    publish_version,
    start_canary,
    widen_canary,
)
from controlplane.registry.models import Service
from tests.access.actors import OPERATOR


def shed(level: int) -> dict[str, Any]:
    return {"inbound": {"shedding": {"level": level}}}


def deadline(milliseconds: int) -> dict[str, Any]:
    return {"inbound": {"deadline_ms": milliseconds}}


def backoff(**values: int) -> dict[str, Any]:
    return {"outbound": {"defaults": {"retry": {"backoff": values}}}}


def open_on(
    service: Service,
    now: datetime,
    patch: Mapping[str, Any] | None = None,
    *,
    minutes: float = 60,
) -> Override:
    return open_override(
        actor=OPERATOR,
        service=service,
        patch=patch or shed(2),
        lasts=timedelta(minutes=minutes),
        reason="checkout is drowning",
        now=now,
    )


def publish_on(service: Service, now: datetime, document: Mapping[str, Any]) -> PolicyVersion:
    return publish_version(
        actor=OPERATOR, service=service, document=document, reason="a new version", now=now
    )


def start_on(
    service: Service,
    now: datetime,
    document: Mapping[str, Any] | None = None,
    *,
    ratio: float = 0.1,
    minutes: float = 60,
) -> Canary:
    return start_canary(
        actor=OPERATOR,
        service=service,
        document=document or shed(1),
        ratio=ratio,
        lasts=timedelta(minutes=minutes),
        reason="on a few first",
        now=now,
    )


def widen(canary: Canary, now: datetime, ratio: float, **expected: float) -> Canary:
    return widen_canary(
        actor=OPERATOR, canary=canary, ratio=ratio, reason="all is well", now=now, **expected
    )


def promote(canary: Canary, now: datetime, **expected: float) -> PolicyVersion:
    return promote_canary(actor=OPERATOR, canary=canary, reason="it held", now=now, **expected)


def end(canary: Canary, now: datetime, **expected: float) -> Canary:
    return end_canary(actor=OPERATOR, canary=canary, reason="it burnt", now=now, **expected)


def cohorts() -> list[tuple[str, float | None, int]]:
    """Every publication of checkout in order: its cohort, its ratio and the shed level it says."""
    rows = Publication.objects.filter(service_slug="checkout").order_by("sequence")
    return [(row.cohort, row.ratio, level_of(row.policy)) for row in rows]


def newest(service: str = "checkout") -> Publication:
    """What was published last to everybody."""
    return Publication.objects.filter(service_slug=service, cohort="").order_by("-sequence")[0]


def newest_canary(service: str = "checkout") -> Publication:
    return Publication.objects.filter(service_slug=service, cohort="canary").order_by("-sequence")[
        0
    ]


def level_of(policy: Mapping[str, Any]) -> int:
    return int(policy["inbound"]["shedding"]["level"])


def stored_state() -> dict[str, list[Any]]:
    """Everything that policies store, for "nothing has changed"."""
    return {
        "versions": list(PolicyVersion.objects.order_by("pk").values()),
        "canaries": list(Canary.objects.order_by("pk").values()),
        "overrides": list(Override.objects.order_by("pk").values()),
        "publications": list(Publication.objects.order_by("pk").values()),
        "audit": list(AuditEntry.objects.order_by("pk").values()),
        "sequence": list(SequenceCounter.objects.filter(value__gt=0).values()),
    }

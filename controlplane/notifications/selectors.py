"""Reads of alerts and of what is to be told."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q

from controlplane.notifications.domain.alerts import ChannelKind
from controlplane.notifications.domain.timing import RESOLVED_TOLD_WITHIN
from controlplane.notifications.models import Alert, Notice


def list_alerts(
    environment: str | None = None,
    *,
    is_open: bool | None = None,
    before_id: int | None = None,
    limit: int,
) -> list[Alert]:
    """Return alerts with their notices, newest first; two queries.

    Args:
        environment: only those with this label.
        is_open: only those that fire (True) or are over (False).
        before_id: the id of the last one seen, to page back.
    """
    found = Alert.objects.all()
    if environment is not None:
        found = found.filter(labels__environment=environment)
    if is_open is not None:
        found = found.filter(resolved_at__isnull=is_open)
    if before_id is not None:
        found = found.filter(pk__lt=before_id)
    return list(found.prefetch_related("notices").order_by("-pk")[:limit])


def list_open_alerts(source: str) -> list[Alert]:
    """Return what fires of one source; one query."""
    return list(Alert.objects.filter(source=source, resolved_at=None).order_by("pk"))


def list_due_notices(kind: ChannelKind, *, now: datetime, limit: int) -> list[Notice]:
    """Return what a channel is to be told now, the longest due first, with alerts; one query.

    What was over a day ago is not told any more.
    """
    recent = Q(alert__resolved_at=None) | Q(alert__resolved_at__gt=now - RESOLVED_TOLD_WITHIN)
    due = Notice.objects.filter(recent, channel=kind.value, next_at__lte=now)
    return list(due.select_related("alert").order_by("next_at", "pk")[:limit])


def open_fingerprints(fingerprints: Iterable[str]) -> set[str]:
    """Return those of these fingerprints that fire now; one query."""
    found = Alert.objects.filter(resolved_at=None, fingerprint__in=list(fingerprints))
    return set(found.values_list("fingerprint", flat=True))

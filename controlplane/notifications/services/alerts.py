"""What fires and what is over, as its watcher sees it, kept in the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import structlog
from django.db import transaction

from controlplane.notifications.domain.alerts import AlertContent, ChannelKind
from controlplane.notifications.models import Alert, Notice
from controlplane.notifications.selectors import list_open_alerts

KEPT_FOR = timedelta(days=30)
BATCH = 2_000

logger = structlog.get_logger(__name__)


def sync_alerts(
    *,
    source: str,
    firing: Sequence[AlertContent],
    channels: Iterable[ChannelKind],
    now: datetime,
) -> tuple[int, int]:
    """Make the open alerts of `source` exactly those in `firing`; return (new, resolved).

    An alert with the same labels stays open and takes the new annotations. The notices that tell
    of a new one, or that it is over, are due in the same transaction: nothing is told that is not
    so, and nothing that is so is forgotten, whatever dies in between. Two that do this at once
    agree: a constraint keeps the second from opening an alert twice.
    """
    wanted = {content.fingerprint: content for content in firing}
    with transaction.atomic():
        open_now = {alert.fingerprint: alert for alert in list_open_alerts(source)}
        fresh = [wanted[key] for key in wanted if key not in open_now]
        over = [alert for key, alert in open_now.items() if key not in wanted]
        _update(open_now, wanted)
        resolved = _resolve(over, now)
        if fresh:
            _open(source, fresh)
        _expect_notices(source, list(channels), now)
    for content in fresh:
        logger.warning("alert.fired", source=source, **content.labels)
    for alert in over:
        logger.info("alert.resolved", source=source, **alert.labels)
    return len(fresh), resolved


def prune_alerts(*, now: datetime) -> int:
    """Delete alerts that were over 30 days ago, at most 2,000; return how many."""
    old = Alert.objects.filter(resolved_at__lt=now - KEPT_FOR).order_by("resolved_at")
    keys = list(old.values_list("pk", flat=True)[:BATCH])
    if keys:
        Alert.objects.filter(pk__in=keys).delete()
    return len(keys)


def _open(source: str, fresh: Sequence[AlertContent]) -> None:
    Alert.objects.bulk_create(
        [
            Alert(
                source=source,
                fingerprint=content.fingerprint,
                labels=dict(content.labels),
                annotations=dict(content.annotations),
                url=content.url,
                starts_at=content.starts_at,
            )
            for content in fresh
        ],
        ignore_conflicts=True,  # somebody else saw it first
        batch_size=200,
    )


def _update(open_now: dict[str, Alert], wanted: dict[str, AlertContent]) -> None:
    changed = []
    for key, alert in open_now.items():
        content = wanted.get(key)
        if content is None or (alert.annotations, alert.url) == (
            dict(content.annotations),
            content.url,
        ):
            continue
        alert.annotations, alert.url = dict(content.annotations), content.url
        changed.append(alert)
    if changed:
        Alert.objects.bulk_update(changed, ["annotations", "url"], batch_size=200)


def _resolve(over: Sequence[Alert], now: datetime) -> int:
    count = 0
    for alert in over:
        at = max(now, alert.starts_at)
        count += Alert.objects.filter(pk=alert.pk, resolved_at=None).update(resolved_at=at)
    # This may cut short the claim of somebody who tells it just now: it is then told twice, which
    # is allowed; never told that it is over would not be. A channel that fails keeps its wait.
    Notice.objects.filter(alert__in=[alert.pk for alert in over]).exclude(told="resolved").filter(
        attempts=0
    ).update(next_at=now)
    return count


def _expect_notices(source: str, channels: Sequence[ChannelKind], now: datetime) -> None:
    """Make the notices of open alerts that have none: new ones, or for a channel that is new."""
    missing: list[Notice] = []
    for kind in channels:
        unheard = Alert.objects.filter(source=source, resolved_at=None).exclude(
            notices__channel=kind.value
        )
        missing.extend(
            Notice(alert_id=pk, channel=kind.value, next_at=now)
            for pk in unheard.values_list("pk", flat=True)
        )
    if missing:
        Notice.objects.bulk_create(missing, ignore_conflicts=True, batch_size=500)

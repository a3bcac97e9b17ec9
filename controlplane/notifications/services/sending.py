"""Telling channels what is due: at least once, in order, and within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import structlog
from django.db import transaction

from controlplane.kernel.instruments import counter
from controlplane.notifications.domain.alerts import (
    AlertNotice,
    ChannelKind,
    Told,
    alertmanager_body,
    webhook_body,
)
from controlplane.notifications.domain.timing import LEASE, next_word, repeat_at, try_again_at
from controlplane.notifications.models import Alert, Notice
from controlplane.notifications.selectors import list_due_notices, open_fingerprints
from controlplane.notifications.upstream.post import NotTold

BATCH = 50
MAX_POSTS = 4  # of one channel in one sweep; the rest is due again in seconds

NOTICES = counter(
    "tidegate_notifications_notices_total", "Notices by channel and result.", ("channel", "result")
)

logger = structlog.get_logger(__name__)


class Poster(Protocol):
    """Takes what a channel is told."""

    def post(self, body: Any, headers: Mapping[str, str]) -> None:
        """Deliver it.

        Raises:
            NotTold: it was not taken.
        """


@dataclass(frozen=True, slots=True)
class _Word:
    """One notice that is claimed, and what its channel is told."""

    notice: Notice
    told: Told


def send_due_notices(
    *, channels: Mapping[ChannelKind, Poster], external_url: str, now: datetime
) -> int:
    """Tell every channel what is due; return how many notices were taken.

    A notice is marked as told after the channel has taken it: whoever dies in between tells it
    again, nobody forgets it. A channel that fails is tried again with growing, jittered waits.
    """
    return sum(
        _tell(kind, poster, external_url=external_url, now=now) for kind, poster in channels.items()
    )


def _tell(kind: ChannelKind, poster: Poster, *, external_url: str, now: datetime) -> int:
    due = list_due_notices(kind, now=now, limit=BATCH * MAX_POSTS)
    claimed = [word for notice in due if (word := _claim(notice, now)) is not None]
    # What is over is told before what fires: of two alerts with the same labels, the older first.
    groups = [
        [word for word in claimed if word.told is told] for told in (Told.RESOLVED, Told.FIRING)
    ]
    groups[0] = _without_superseded(kind, groups[0], now)
    taken = 0
    for words in groups:
        for start in range(0, len(words), BATCH):
            taken += _post(
                kind, poster, words[start : start + BATCH], external_url=external_url, now=now
            )
    return taken


def _claim(notice: Notice, now: datetime) -> _Word | None:
    """Take a notice for this sender alone; None when another has it, or nothing is left to tell."""
    alert = notice.alert
    told = Told(notice.told)
    word = next_word(told, is_resolved=alert.resolved_at is not None)
    if word is None and alert.resolved_at is None:
        word = told  # told before, and due to be repeated
    held = Notice.objects.filter(pk=notice.pk, next_at=notice.next_at).update(
        next_at=None if word is None or told is Told.RESOLVED else now + LEASE
    )
    if not held or word is None or told is Told.RESOLVED:
        return None
    return _Word(notice, word)


def _without_superseded(kind: ChannelKind, words: Sequence[_Word], now: datetime) -> list[_Word]:
    """Leave out ends that Alertmanager would take for the end of a newer alert of those labels."""
    if kind is not ChannelKind.ALERTMANAGER or not words:
        return list(words)
    firing = open_fingerprints(word.notice.alert.fingerprint for word in words)
    stale = [word for word in words if word.notice.alert.fingerprint in firing]
    for word in stale:
        _mark_told(word, kind, now)
    return [word for word in words if word not in stale]


def _post(
    kind: ChannelKind,
    poster: Poster,
    words: Sequence[_Word],
    *,
    external_url: str,
    now: datetime,
) -> int:
    told = words[0].told
    notices = [_notice(word) for word in words]
    body: Any
    if kind is ChannelKind.ALERTMANAGER:
        body = alertmanager_body(notices, now)
    else:
        body = webhook_body(notices, told=told, external_url=external_url)
    key = f"{told.value}-" + "-".join(str(word.notice.pk) for word in (words[0], words[-1]))
    try:
        poster.post(body, {"Idempotency-Key": key})
    except NotTold as error:
        NOTICES.labels(kind.value, "failed").inc(len(words))
        logger.warning("alerts.not_told", channel=kind.value, count=len(words), error=error.message)
        for word in words:
            _mark_failed(word, error, now)
        return 0
    NOTICES.labels(kind.value, "told").inc(len(words))
    for word in words:
        _mark_told(word, kind, now)
    return len(words)


def _notice(word: _Word) -> AlertNotice:
    alert = word.notice.alert
    return AlertNotice(
        labels=alert.labels,
        annotations=alert.annotations,
        url=alert.url,
        starts_at=alert.starts_at,
        resolved_at=alert.resolved_at if word.told is Told.RESOLVED else None,
    )


def _mark_told(word: _Word, kind: ChannelKind, now: datetime) -> None:
    """Note what the channel has taken, and when it is told more.

    The alert may end at this very moment. Whoever ends it changes its row first and then makes its
    notices due, so its row is locked here: what ends it has done both before, and is seen, or does
    both afterwards, and finds the notice as it is left here. (The lock of the notice would not do:
    what ends an alert passes over the notices of a channel that failed before.)
    """
    with transaction.atomic():
        alert = Alert.objects.select_for_update(no_key=True).get(pk=word.notice.alert_id)
        left = next_word(word.told, is_resolved=alert.resolved_at is not None)
        Notice.objects.filter(pk=word.notice.pk).update(
            told=word.told.value,
            told_at=now,
            attempts=0,
            last_error="",
            next_at=now if left is not None else repeat_at(kind, word.told, now),
        )


def _mark_failed(word: _Word, error: NotTold, now: datetime) -> None:
    attempts = word.notice.attempts + 1
    Notice.objects.filter(pk=word.notice.pk).update(
        attempts=attempts,
        last_error=error.message[:300],
        next_at=try_again_at(attempts, is_refusal=error.is_refusal, asked_s=error.asked_s, now=now),
    )

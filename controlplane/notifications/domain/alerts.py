"""Alerts as values: what identifies one, and how it reads on the wire of each channel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

ENDS_AFTER = timedelta(minutes=5)
"""Alertmanager takes an alert for resolved this long after it was last told: if we die, it ends."""


class ChannelKind(StrEnum):
    """Where alerts go."""

    ALERTMANAGER = "alertmanager"
    WEBHOOK = "webhook"


class Told(StrEnum):
    """What a channel knows of an alert."""

    NOTHING = ""
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class AlertContent:
    """What fires: labels say which alert it is, annotations what to know and do about it.

    Two contents with the same labels are the same alert; annotations may change while it fires.
    """

    labels: Mapping[str, str]
    starts_at: datetime
    annotations: Mapping[str, str] = field(default_factory=dict)
    url: str = ""

    @property
    def fingerprint(self) -> str:
        """What tells this alert from every other one."""
        return fingerprint(self.labels)


@dataclass(frozen=True, slots=True)
class AlertNotice:
    """One alert as a channel is told of it; it fires while `resolved_at` is None."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    url: str
    starts_at: datetime
    resolved_at: datetime | None


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return 32 hexadecimal digits that are the same for the same labels, in whatever order."""
    canonical = json.dumps(sorted(labels.items()), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def alertmanager_body(notices: Sequence[AlertNotice], now: datetime) -> list[dict[str, Any]]:
    """Return the body of Alertmanager's `POST /api/v2/alerts`.

    A firing alert carries an end in the near future, so that it ends by itself when nobody
    repeats it any more.
    """
    return [
        {
            "labels": dict(notice.labels),
            "annotations": dict(notice.annotations),
            "startsAt": rfc3339(notice.starts_at),
            "endsAt": rfc3339(notice.resolved_at or now + ENDS_AFTER),
            "generatorURL": notice.url,
        }
        for notice in notices
    ]


def webhook_body(
    notices: Sequence[AlertNotice], *, told: Told, external_url: str
) -> dict[str, Any]:
    """Return the body that Alertmanager's own webhook receivers get (version 4).

    So whatever receives Alertmanager's webhooks receives ours. `notices` are all in state `told`.
    """
    alerts = [
        {
            "status": told.value,
            "labels": dict(notice.labels),
            "annotations": dict(notice.annotations),
            "startsAt": rfc3339(notice.starts_at),
            "endsAt": "0001-01-01T00:00:00Z"
            if notice.resolved_at is None or told is Told.FIRING
            else rfc3339(notice.resolved_at),
            "generatorURL": notice.url,
            "fingerprint": fingerprint(notice.labels),
        }
        for notice in notices
    ]
    return {
        "version": "4",
        "groupKey": f"tidegate:{told.value}",
        "truncatedAlerts": 0,
        "status": told.value,
        "receiver": "tidegate",
        "groupLabels": {},
        "commonLabels": _common([notice.labels for notice in notices]),
        "commonAnnotations": _common([notice.annotations for notice in notices]),
        "externalURL": external_url,
        "alerts": alerts,
    }


def rfc3339(at: datetime) -> str:
    """Return an aware instant in UTC, with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _common(many: Sequence[Mapping[str, str]]) -> dict[str, str]:
    if not many:
        return {}
    return {
        name: value
        for name, value in many[0].items()
        if all(other.get(name) == value for other in many)
    }

"""Alerts to fire, and a channel that remembers what it was told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from controlplane.notifications.domain.alerts import AlertContent, ChannelKind
from controlplane.notifications.services.alerts import sync_alerts
from controlplane.notifications.services.sending import send_due_notices
from controlplane.notifications.upstream.post import NotTold

SOURCE = "test"
BOTH = (ChannelKind.ALERTMANAGER, ChannelKind.WEBHOOK)


def content(now: datetime, service: str = "checkout", **annotations: str) -> AlertContent:
    return AlertContent(
        labels={"alertname": "TidegatePolicyRejected", "environment": "prod", "service": service},
        starts_at=now - timedelta(seconds=3),
        annotations={"summary": "1 of 3 rejects"} | annotations,
        url="http://tidegate.test/convergence/7/",
    )


def fire(
    now: datetime,
    *contents: AlertContent,
    channels: tuple[ChannelKind, ...] = BOTH,
) -> tuple[int, int]:
    return sync_alerts(source=SOURCE, firing=contents, channels=channels, now=now)


class Recorder:
    """A channel that takes what it is told, or fails as it is told to."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.headers: list[Mapping[str, str]] = []
        self.failure: NotTold | None = None
        self.calls = 0

    def post(self, body: Any, headers: Mapping[str, str]) -> None:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        self.bodies.append(body)
        self.headers.append(headers)

    def statuses(self) -> list[tuple[str, str]]:
        """What it was told as a webhook: (status, service), in order."""
        return [
            (alert["status"], alert["labels"]["service"])
            for body in self.bodies
            for alert in body["alerts"]
        ]


def send(now: datetime, recorder: Recorder, kind: ChannelKind = ChannelKind.WEBHOOK) -> int:
    return send_due_notices(channels={kind: recorder}, external_url="http://tidegate.test", now=now)

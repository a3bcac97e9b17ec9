"""The channels that the environment names, made once per process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from django.conf import settings

from controlplane.notifications.domain.alerts import ChannelKind
from controlplane.notifications.upstream.post import Channel

ALERTMANAGER_PATH = "/api/v2/alerts"


def configured_channels() -> Mapping[ChannelKind, Channel]:
    """Return the channels in use; empty when none is configured."""
    urls = {
        ChannelKind.ALERTMANAGER: settings.TIDEGATE.alertmanager_url,
        ChannelKind.WEBHOOK: settings.TIDEGATE.alert_webhook_url,
    }
    return {kind: channel_to(kind, url) for kind, url in urls.items() if url}


@lru_cache(maxsize=8)
def channel_to(kind: ChannelKind, url: str) -> Channel:
    """Return the channel at `url`: the same each time, for its breaker must remember."""
    if kind is ChannelKind.ALERTMANAGER:
        return Channel(url.rstrip("/") + ALERTMANAGER_PATH)
    return Channel(url)

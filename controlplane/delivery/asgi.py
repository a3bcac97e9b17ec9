"""The delivery plane as one piece: the config API and the feed that keeps it current."""

from __future__ import annotations

import time

from django.conf import settings

from controlplane.delivery.hotpath.app import ConfigApp
from controlplane.delivery.hotpath.auth import TokenTable
from controlplane.delivery.hotpath.keys import KeysAddress
from controlplane.delivery.hotpath.reports import ReportBuffer
from controlplane.delivery.hotpath.store import SnapshotStore
from controlplane.delivery.services.feed import Feed
from controlplane.delivery.services.instruments import PLANE
from controlplane.delivery.services.signing import Signer


def build() -> tuple[ConfigApp, Feed]:
    """Return the config API and its feed, from settings. Nothing runs or is read yet."""
    options = settings.TIDEGATE
    store, tokens, reports = SnapshotStore(time.time), TokenTable(), ReportBuffer()
    app = ConfigApp(store, tokens, reports, max_parked=options.max_parked_polls)
    signer = Signer(
        KeysAddress(time.time),
        store.use_signer,
        secret=settings.TIDEGATE_SIGNING_SECRET,
        clock=time.time,
    )
    feed = Feed(
        store,
        tokens,
        reports,
        redis_url=options.redis_url,
        snapshot_file=options.snapshot_file,
        signer=signer,
    )
    PLANE.watch(app, reports, lambda: feed.confirmed_at_unix)
    return app, feed

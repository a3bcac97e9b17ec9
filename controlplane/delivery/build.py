"""The delivery plane as one piece: its addresses, and the feed that keeps them current."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.conf import settings

from controlplane.delivery.hotpath.app import ConfigApp
from controlplane.delivery.hotpath.auth import TokenTable
from controlplane.delivery.hotpath.gate import Gate
from controlplane.delivery.hotpath.keys import PATH as KEYS_PATH
from controlplane.delivery.hotpath.keys import KeysAddress
from controlplane.delivery.hotpath.ofrep import PREFIX as OFREP_PREFIX
from controlplane.delivery.hotpath.ofrep import OfrepAdapter
from controlplane.delivery.hotpath.plane import DeliveryPlane
from controlplane.delivery.hotpath.reports import ReportBuffer
from controlplane.delivery.hotpath.requests import Adapter
from controlplane.delivery.hotpath.spring import PREFIX as SPRING_PREFIX
from controlplane.delivery.hotpath.spring import SpringAdapter
from controlplane.delivery.hotpath.store import SnapshotStore
from controlplane.delivery.hotpath.xds import PREFIX as XDS_PREFIX
from controlplane.delivery.hotpath.xds import XdsAdapter
from controlplane.delivery.services.feed import Feed
from controlplane.delivery.services.instruments import PLANE
from controlplane.delivery.services.signing import Signer

ADAPTERS: dict[str, Callable[[Gate, ReportBuffer], Adapter]] = {
    OFREP_PREFIX: OfrepAdapter,
    SPRING_PREFIX: lambda gate, _: SpringAdapter(gate),
    XDS_PREFIX: XdsAdapter,
}
"""What serves publications in others' words, by path prefix."""


def build() -> tuple[DeliveryPlane, Feed]:
    """Return the delivery plane and its feed, from settings. Nothing runs or is read yet."""
    options = settings.TIDEGATE
    store, tokens, reports = SnapshotStore(time.time), TokenTable(), ReportBuffer()
    gate = Gate(store, tokens, clock=time.time)
    keys = KeysAddress(time.time)
    plane = DeliveryPlane(
        ConfigApp(gate, reports, max_held=options.max_parked_polls),
        adapters={prefix: make(gate, reports) for prefix, make in ADAPTERS.items()},
        addresses={KEYS_PATH: keys},
    )
    signer = Signer(
        keys, store.use_signer, secret=settings.TIDEGATE_SIGNING_SECRET, clock=time.time
    )
    feed = Feed(
        store,
        tokens,
        reports,
        redis_url=options.redis_url,
        snapshot_file=options.snapshot_file,
        signer=signer,
    )
    PLANE.watch(plane, reports, lambda: feed.confirmed_at_unix)
    return plane, feed

"""Which key a delivery process signs with, whatever fails on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import InternalError, OperationalError, connection
from structlog.testing import capture_logs

from controlplane.delivery.domain.jws import PrivateKey, verify
from controlplane.delivery.domain.keyring import AnnouncedKey
from controlplane.delivery.domain.sealing import Seal
from controlplane.delivery.hotpath.keys import PATH, KeysAddress
from controlplane.delivery.hotpath.lanes import Sign
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.models import SigningKey
from controlplane.delivery.services import feed as feed_module
from controlplane.delivery.services.feed import Feed
from controlplane.delivery.services.signing import Signer
from controlplane.delivery.services.signing_keys import (
    ensure_signing_key,
    rotate_signing_key,
    withdraw_signing_key,
)
from tests.access.actors import ADMIN
from tests.delivery.builders import (
    NOW,
    Clock,
    Plane,
    VirtualTimeLoop,
    make_plane,
    run_virtually,
    snapshot,
)
from tests.delivery.rows import in_thread, publication_row, token_row
from tests.waiting import not_hung

LEAD = timedelta(minutes=10)
BODY = b'{"sequence":7}'


class Uses:
    """Stands where the store does: keeps what it was told to sign with."""

    def __init__(self) -> None:
        self.sign: Sign | None = None
        self.is_signing = asyncio.Event()

    def __call__(self, sign: Sign | None) -> None:
        self.sign = sign
        self.is_signing.set()

    def kid(self, *trusted: PrivateKey) -> str | None:
        return self.kid_among({key.kid: key.x for key in trusted})

    def kid_among(self, trusted: dict[str, str]) -> str | None:
        """The key that a signature of now really verifies with; None when nothing is signed."""
        return None if self.sign is None else verify(self.sign(BODY), BODY, trusted)


@dataclass(slots=True)
class Node:
    """A delivery process in memory: what it signs with, and which keys it names."""

    plane: Plane
    feed: Feed
    address: KeysAddress
    used: Uses

    @property
    def kid(self) -> str | None:
        return self.used.kid_among({row["kid"]: row["x"] for row in self.listed})

    @property
    def listed(self) -> list[dict[str, Any]]:
        answer = self.address.answer(Request("GET", PATH, b"", []))
        keys: list[dict[str, Any]] = json.loads(answer.body)["keys"]
        return keys


def make_node(
    tmp_path: Path, clock: Callable[[], float], secret: str = settings.TIDEGATE_SIGNING_SECRET
) -> Node:
    plane = make_plane(snapshot(1, service="nobody", environment="nowhere"), clock=clock)
    plane.store.is_loaded = False
    address, used = KeysAddress(clock), Uses()
    feed = Feed(
        plane.store, plane.tokens, plane.reports, redis_url="redis://127.0.0.1:1",
        snapshot_file=tmp_path / "snapshots.json", clock=clock,
        signer=Signer(address, used, secret=secret, clock=clock),
    )  # fmt: skip
    return Node(plane, feed, address, used)


def announced(key: PrivateKey, at: datetime) -> AnnouncedKey:
    sealed = Seal(settings.TIDEGATE_SIGNING_SECRET).close(key)
    return AnnouncedKey(key.kid, key.x, at.timestamp(), sealed)


@pytest.mark.django_db
def test_a_node_signs_with_the_active_key_and_names_it(tmp_path: Path) -> None:
    key = ensure_signing_key(actor=ADMIN, now=NOW)
    node = make_node(tmp_path, Clock())

    node.feed.load()

    assert node.kid == key.kid
    assert [row["status"] for row in node.listed] == ["active"]


@pytest.mark.django_db
def test_an_announced_key_is_named_at_once_and_signs_from_its_time_on(tmp_path: Path) -> None:
    first = ensure_signing_key(actor=ADMIN, now=NOW)
    clock = Clock()
    node = make_node(tmp_path, clock)
    node.feed.load()

    second = rotate_signing_key(actor=ADMIN, reason="yearly", lead=LEAD, now=NOW)
    node.feed.load()
    announced_statuses = [row["status"] for row in node.listed]
    before = node.kid
    clock.pass_s(LEAD.total_seconds())
    node.feed.load()

    assert announced_statuses == ["active", "next"]
    assert (before, node.kid) == (first.kid, second.kid)
    assert [row["status"] for row in node.listed] == ["retired", "active"]


def test_the_clock_alone_changes_the_key_without_any_database() -> None:
    old, young = PrivateKey.generate(), PrivateKey.generate()

    async def story(loop: VirtualTimeLoop) -> tuple[str | None, str | None]:
        node_keys, used = KeysAddress(loop.wall_unix), Uses()
        signer = Signer(
            node_keys, used, secret=settings.TIDEGATE_SIGNING_SECRET, clock=loop.wall_unix
        )
        signer.put([announced(old, NOW), announced(young, NOW + LEAD)])
        await asyncio.sleep(LEAD.total_seconds() - 0.1)
        before = used.kid(old, young)
        await asyncio.sleep(0.2)
        return before, used.kid(old, young)

    assert run_virtually(story) == (old.kid, young.kid)


def test_a_key_that_was_sealed_anew_opens_although_it_did_not_before() -> None:
    key, new_secret, used = PrivateKey.generate(), "n" * 64, Uses()
    old = announced(key, NOW)
    new = replace(old, sealed=Seal(new_secret).close(key))
    signer = Signer(KeysAddress(Clock()), used, secret=new_secret, clock=Clock())

    signer.put([old])  # as the snapshot file has it
    before = used.kid(key)
    signer.put([new])  # as the database has it

    assert (before, used.kid(key)) == (None, key.kid)


@pytest.mark.django_db
def test_a_withdrawn_key_signs_nothing_more_and_is_not_named(tmp_path: Path) -> None:
    first = ensure_signing_key(actor=ADMIN, now=NOW)
    clock = Clock()
    node = make_node(tmp_path, clock)
    node.feed.load()

    clock.pass_s(1)
    done = withdraw_signing_key(
        actor=ADMIN, kid=first.kid, reason="stolen", now=NOW + timedelta(seconds=1)
    )
    node.feed.load()

    assert node.kid == done.active.kid != first.kid
    assert [row["kid"] for row in node.listed] == [done.active.kid]


@pytest.mark.django_db
def test_a_key_that_does_not_open_is_said_once_and_not_used(tmp_path: Path) -> None:
    publication_row(3)
    key = ensure_signing_key(actor=ADMIN, now=NOW)
    node = make_node(tmp_path, Clock(), secret="another " * 8)

    with capture_logs() as lines:
        for _ in range(3):
            node.feed.load()

    assert node.kid is None
    assert node.plane.config.is_ready is True
    assert [(line["event"], line["kid"]) for line in lines] == [("signing_key.unopened", key.kid)]


@pytest.mark.django_db
@pytest.mark.parametrize("damage", [[{"kid": "x"}], ["x"], [None], 7])
def test_a_damaged_key_keeps_neither_policies_nor_other_keys_away(
    tmp_path: Path, damage: Any
) -> None:
    publication_row(3)
    first = ensure_signing_key(actor=ADMIN, now=NOW)
    second = rotate_signing_key(actor=ADMIN, reason="yearly", lead=LEAD, now=NOW)
    SigningKey.objects.filter(pk=second.pk).update(endorsements=damage)
    node = make_node(tmp_path, Clock())

    with capture_logs() as lines:
        for _ in range(3):
            node.feed.load()

    assert node.kid == first.kid
    assert [row["kid"] for row in node.listed] == [first.kid]
    assert node.plane.store.find_slot("prod", "checkout") is not None
    assert [line["event"] for line in lines].count("signing_key.unreadable") == 1


@pytest.mark.django_db
def test_a_node_that_loses_its_key_stops_signing(tmp_path: Path) -> None:
    """The announced key was sealed by a node with another secret."""
    first = ensure_signing_key(actor=ADMIN, now=NOW)
    second = rotate_signing_key(actor=ADMIN, reason="yearly", lead=LEAD, now=NOW)
    foreign = Seal("another " * 8).close(PrivateKey.generate())
    SigningKey.objects.filter(pk=second.pk).update(sealed_private=foreign)
    clock = Clock()
    node = make_node(tmp_path, clock)
    node.feed.load()

    before = node.kid
    clock.pass_s(LEAD.total_seconds())
    with capture_logs() as lines:
        node.feed.load()

    assert (before, node.kid) == (first.kid, None)
    assert "signing_key.unopened" in [line["event"] for line in lines]


@pytest.mark.django_db(transaction=True)
def test_a_fresh_process_signs_without_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication_row(3)
    token_row()
    ensure_signing_key(actor=ADMIN, now=NOW)
    second = rotate_signing_key(actor=ADMIN, reason="yearly", lead=LEAD, now=NOW)
    clock = Clock()
    first_node = make_node(tmp_path, clock)
    look_and_stop(first_node.feed)
    lose_the_database(monkeypatch)
    clock.pass_s(LEAD.total_seconds())

    node = make_node(tmp_path, clock)
    node.feed.load()

    assert node.kid == second.kid
    assert node.listed[1]["endorsements"] == second.endorsements
    assert settings.TIDEGATE_SIGNING_SECRET not in (tmp_path / "snapshots.json").read_text()


@pytest.mark.django_db(transaction=True)
async def test_the_first_process_that_runs_makes_the_first_key(tmp_path: Path) -> None:
    node = make_node(tmp_path, Clock())

    running = asyncio.create_task(node.feed.run())
    try:
        async with not_hung():
            await node.used.is_signing.wait()
        kid = node.kid
    finally:
        await node.feed.stop()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert kid == await in_thread(kid_in_the_database)


@pytest.mark.django_db(transaction=True)
async def test_a_database_that_takes_no_key_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path, Clock())
    tried = asyncio.Queue[None]()
    loop = asyncio.get_running_loop()

    def refuse(**_: Any) -> Any:
        loop.call_soon_threadsafe(tried.put_nowait, None)
        raise InternalError("cannot execute INSERT in a read-only transaction")

    monkeypatch.setattr(feed_module, "ensure_signing_key", refuse)
    with capture_logs() as lines:
        running = asyncio.create_task(node.feed.run())
        try:
            async with not_hung():
                await tried.get()
                node.feed.hint()
                await tried.get()
        finally:
            await node.feed.stop()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert [line["event"] for line in lines].count("signing_key.unmade") == 1
    assert node.kid is None


def kid_in_the_database() -> str:
    try:
        return SigningKey.objects.get().kid
    finally:
        connection.close()


def lose_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> Any:
        raise OperationalError("unable to open database file")

    monkeypatch.setattr(feed_module, "read_changes", fail)


def look_and_stop(feed: Feed) -> None:
    async def story() -> None:
        await feed.sync()
        await feed.stop()

    asyncio.run(story())

"""From the publications table into the hot path's store, and from its reports into the database.

The database is the truth. A hint over pub/sub makes a change arrive in milliseconds; when hints
are lost, a look every second finds it. When the database is lost, snapshots stay as they are. What
is served is in the snapshot file first, so that a restart does not go back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from django.db import Error as DatabaseError

from controlplane.access.domain.actors import system_actor
from controlplane.delivery.domain.compile import compile_snapshot
from controlplane.delivery.domain.snapshot import PublishedPolicy, Snapshot
from controlplane.delivery.hotpath.auth import TokenTable
from controlplane.delivery.hotpath.reports import ReportBuffer
from controlplane.delivery.hotpath.store import SnapshotStore
from controlplane.delivery.services.database_thread import DatabaseThread
from controlplane.delivery.services.hints import HintListener, connect_to
from controlplane.delivery.services.history import Claim, History
from controlplane.delivery.services.instruments import (
    FEED_FAILURES,
    PUBLISH_TO_SWAP,
)
from controlplane.delivery.services.loading import START, Changes, Position, Stamp, read_changes
from controlplane.delivery.services.remembering import SnapshotMemory
from controlplane.delivery.services.report_writer import ReportWriter
from controlplane.delivery.services.signing import Signer
from controlplane.delivery.services.signing_keys import ensure_signing_key
from controlplane.delivery.services.snapshot_file import LaneKey, News, SavedSnapshots, key_of

RECONCILE_S = 1.0  # a revoked token works for 2 s at most, the look itself included
BEHIND_AFTER_S = 6.0  # some looks that failed
START_WITHIN_S = 3.0
STOP_WITHIN_S = 3.0
CLOCK_CHECK_S = 1.0  # the longest that a jump of the wall clock can keep an expired token alive
SWAPS_PER_TURN = 100

logger = structlog.get_logger(__name__)


Compiled = tuple[tuple[PublishedPolicy, Snapshot], ...]
Unreadable = tuple[tuple[int, str], ...]
Recalled = tuple[SavedSnapshots | None, tuple[Compiled, Unreadable]]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the database found, ready to be served."""

    changes: Changes
    snapshots: Compiled
    unreadable: Unreadable


class Feed:
    """Keeps a store and a token table current, and writes what instances report.

    Database work runs on two threads of its own, one that reads and one that writes, so that
    neither waits for the other nor for the pages, and none of it for ever; everything else runs on
    the event loop.
    """

    def __init__(
        self,
        store: SnapshotStore,
        tokens: TokenTable,
        reports: ReportBuffer,
        *,
        redis_url: str,
        snapshot_file: Path,
        signer: Signer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._signer = signer
        self._clock = clock
        self._memory = SnapshotMemory(snapshot_file)
        self._history = History()
        self._served: dict[LaneKey, Position] = {}
        self._tokens_stamp: Stamp | None = None
        self._keys_stamp: Stamp | None = None
        self._reached = START
        self._has_recalled = False
        self._may_start_from_file = False
        self._database_answers: bool | None = None
        self._is_missing_key_said = False
        self.confirmed_at_unix = 0.0
        self._wanted = asyncio.Event()
        self._hints = HintListener(partial(connect_to, redis_url), self.hint)
        self._reader = DatabaseThread("feed-read")
        self._reports = ReportWriter(reports, self._hints, is_busy=lambda: store.is_waking)
        self._tasks: list[asyncio.Task[None]] = []

    def load(self) -> None:
        """Fill the store from the database, or from the snapshot file when it does not answer.

        Blocking, on the caller's own connection: for tests and commands. Harmless to repeat.
        """
        if not self._has_recalled:
            self._put_recalled(self._recall())
        try:
            look = self._look()
        except DatabaseError as error:
            self._say_database_lost(error)
            return
        for _ in self._take(look):
            pass

    async def run(self) -> None:
        """Load, then follow publications and write reports until stopped."""
        if not self._has_recalled:
            self._put_recalled(await asyncio.to_thread(self._recall))
        self._tasks = [
            asyncio.create_task(self._follow(), name="feed: follow"),
            asyncio.create_task(self._watch_age(), name="feed: age"),
            asyncio.create_task(self._expire_forever(), name="feed: expiry of tokens"),
            asyncio.create_task(self._hints.run(), name="feed: hints"),
            asyncio.create_task(self._reports.run(), name="feed: reports"),
        ]
        try:
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()

    async def stop(self) -> None:
        """Stop following, write what is still buffered, then return; within about 5 s."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN_S):
                await self.flush()
        await asyncio.gather(self._reader.close(), self._reports.close(), self._memory.close())

    def hint(self) -> None:
        """Look at the database now instead of at the end of the present second."""
        self._wanted.set()

    async def sync(self) -> None:
        """Look at the database once and serve what is new; it is in the snapshot file first."""
        claim = self._store.take_claim()
        try:
            look = await self._reader.run(self._look)
        except DatabaseError as error:
            self._say_database_lost(error)
            return
        news = tuple(published for published, _ in look.snapshots if self._is_news(published))
        await self._memory.add(
            News(news, look.changes.tokens, look.changes.keys), confirmed_at_unix=self._clock()
        )
        for _ in self._take(look, claim):
            await asyncio.sleep(0)  # thousands at once must not make a poll wait for them

    async def flush(self) -> None:
        """Write the reports that are waiting; what the database cannot take now is kept."""
        await self._reports.flush()

    async def _follow(self) -> None:
        asyncio.get_running_loop().call_later(START_WITHIN_S, self._start_from_file)
        while True:
            self._wanted.clear()
            await self.sync()
            await self._ensure_key()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONCILE_S):
                    await self._wanted.wait()

    async def _ensure_key(self) -> None:
        """Make the first signing key; every process tries, and one succeeds."""
        if self._signer is None or self._signer.has_keys or not self._database_answers:
            return
        now = datetime.fromtimestamp(self._clock(), UTC)
        make = partial(ensure_signing_key, actor=system_actor("delivery"), now=now)
        try:
            await self._reader.run(make)
        except DatabaseError as error:
            FEED_FAILURES.labels("write").inc()
            if not self._is_missing_key_said:
                logger.error("signing_key.unmade", error=str(error), answers="unsigned")
            self._is_missing_key_said = True
            return
        self.hint()

    async def _expire_forever(self) -> None:
        while True:
            left_s = self._tokens.next_expiry_unix - self._clock()
            await asyncio.sleep(min(max(left_s, 0.0), CLOCK_CHECK_S))
            for key in self._tokens.take_expired(self._clock()):
                self._store.wake(key)

    async def _watch_age(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._mark_age()

    def _look(self) -> Look:
        changes = read_changes(
            after=self._reached, stamp=self._tokens_stamp, keys_stamp=self._keys_stamp
        )
        snapshots, unreadable = _compiled(changes.publications)
        return Look(changes, snapshots, (*changes.unreadable, *unreadable))

    def _take(self, look: Look, claim: Claim | None = None) -> Iterator[None]:
        """Serve what a look found; yields now and then, so that others may run."""
        if self._database_answers is False:
            logger.info("database.back")
        is_first = self._reached == START
        self._database_answers = True
        self._compare(look, claim)
        _say_unreadable(look.unreadable)
        self._use_credentials(look.changes)
        for number, (published, snapshot) in enumerate(look.snapshots, start=1):
            self._serve(published, snapshot)
            if not is_first:
                PUBLISH_TO_SWAP.observe(max(0.0, self._clock() - published.issued_at.timestamp()))
            if number % SWAPS_PER_TURN == 0:
                yield
        self._reached = look.changes.reached
        self.confirmed_at_unix = self._clock()
        self._store.behind_since_unix = None
        self._store.is_loaded = True

    def _use_credentials(self, changes: Changes) -> None:
        self._tokens_stamp = changes.stamp
        if changes.tokens is not None:
            for key in self._tokens.replace(changes.tokens):
                self._store.wake(key)
        self._keys_stamp = changes.keys_stamp
        if self._signer is not None:
            self._signer.advance()
            if changes.keys is not None:
                self._signer.put(changes.keys)

    def _serve(self, published: PublishedPolicy, snapshot: Snapshot) -> None:
        if self._store.swap(snapshot):
            self._served[key_of(published)] = Position(published.sequence, published.etag)

    def _is_news(self, published: PublishedPolicy) -> bool:
        served = self._served.get(key_of(published))
        return served is None or served.sequence < published.sequence

    def _compare(self, look: Look, claim: Claim | None) -> None:
        """Say what the database lacks of what was served before."""
        served = max((position.sequence for position in self._served.values()), default=0)
        self._history.compare(
            newest=look.changes.newest, served=served, claim=claim, now_unix=self._clock()
        )
        if look.changes.is_everything and look.changes.newest >= served and not look.unreadable:
            found = {key_of(published): published for published, _ in look.snapshots}
            lower = [
                (key, position)
                for key, position in self._served.items()
                if key not in found or _differs(found[key], position)
            ]
            if lower:
                self._history.say_other(lower)

    def _say_database_lost(self, error: DatabaseError) -> None:
        FEED_FAILURES.labels("read").inc()
        if self._database_answers is not False:
            logger.warning("database.lost", error=str(error), serving="last snapshots")
        self._database_answers = False
        if self._signer is not None:
            self._signer.advance()
        self._start_from_file()
        self._mark_age()

    def _mark_age(self) -> None:
        if self._store.is_loaded and self._clock() - self.confirmed_at_unix > BEHIND_AFTER_S:
            self._store.behind_since_unix = self.confirmed_at_unix

    def _recall(self) -> Recalled:
        saved = self._memory.recall()
        return saved, _compiled(saved.publications if saved is not None else ())

    def _put_recalled(self, recalled: Recalled) -> None:
        """Take up what was served before a restart, even if the database answers.

        What it holds may be older: it is restored from a backup, or a replica.
        """
        self._has_recalled = True
        saved, (snapshots, unreadable) = recalled
        if saved is None:
            return
        _say_unreadable(unreadable)
        for published, snapshot in snapshots:
            self._serve(published, snapshot)
        self._tokens.replace(saved.tokens)
        if self._signer is not None:
            self._signer.put(saved.keys)
        self.confirmed_at_unix = saved.confirmed_at_unix
        self._may_start_from_file = True

    def _start_from_file(self) -> None:
        """Serve what the file holds, with its age, unless the database was there first."""
        if self._may_start_from_file and not self._store.is_loaded:
            self._store.is_loaded = True
            self._store.behind_since_unix = self.confirmed_at_unix
            logger.warning("snapshots.restored", count=len(self._served))


def _compiled(publications: Iterable[PublishedPolicy]) -> tuple[Compiled, Unreadable]:
    """Render publications; one that somebody damaged by hand must not keep the others away."""
    snapshots: list[tuple[PublishedPolicy, Snapshot]] = []
    unreadable: list[tuple[int, str]] = []
    for published in publications:
        try:
            snapshots.append((published, compile_snapshot(published)))
        except (TypeError, ValueError) as error:
            unreadable.append((published.sequence, repr(error)))
    return tuple(snapshots), tuple(unreadable)


def _differs(found: PublishedPolicy, served: Position) -> bool:
    """Say whether the database has less than was served, or another publication of its number."""
    if found.sequence == served.sequence:
        return found.etag != served.etag
    return found.sequence < served.sequence


def _say_unreadable(unreadable: Unreadable) -> None:
    for sequence, problem in unreadable:
        logger.error("publication.unreadable", sequence=sequence, error=problem)

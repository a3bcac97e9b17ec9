"""From the publications table into the hot path's store, and from its reports into the database.

The database is the truth. A hint over pub/sub makes a change arrive in milliseconds; when hints
are lost, a look every second finds it. When the database is lost, snapshots stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, close_old_connections

from controlplane.access.domain.actors import system_actor
from controlplane.delivery.domain.compile import compile_snapshot
from controlplane.delivery.domain.keyring import AnnouncedKey
from controlplane.delivery.domain.snapshot import PublishedPolicy
from controlplane.delivery.hotpath.auth import TokenRecord, TokenTable
from controlplane.delivery.hotpath.reports import ReportBuffer
from controlplane.delivery.hotpath.store import SnapshotStore
from controlplane.delivery.services.hints import HintListener, connect_to
from controlplane.delivery.services.instruments import (
    FEED_FAILURES,
    PUBLISH_TO_SWAP,
    REPORTS_WRITTEN,
)
from controlplane.delivery.services.loading import Changes, Stamp, read_changes
from controlplane.delivery.services.reports import write_reports
from controlplane.delivery.services.signing import Signer
from controlplane.delivery.services.signing_keys import ensure_signing_key
from controlplane.delivery.services.snapshot_file import read_snapshot_file, write_snapshot_file
from controlplane.kernel.channels import Channel
from controlplane.kernel.hints import send_hints

RECONCILE_S = 1.0  # a revoked token works for 2 s at most, the look itself included
FLUSH_S = 0.25
BEHIND_AFTER_S = 6.0  # some looks that failed
CLOCK_CHECK_S = 1.0  # the longest that a jump of the wall clock can keep an expired token alive
STOP_WITHIN_S = 5.0

Result = TypeVar("Result")

logger = structlog.get_logger(__name__)


class Feed:
    """Keeps a store and a token table current, and writes what instances report.

    Database work runs on two threads of its own, one that reads and one that writes, so that
    neither waits for the other nor for the pages; everything else runs on the event loop.
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
        self._reports = reports
        self._signer = signer
        self._snapshot_file = snapshot_file
        self._clock = clock
        self._published: dict[tuple[str, str, str], PublishedPolicy] = {}
        self._token_records: tuple[TokenRecord, ...] = ()
        self._tokens_stamp: Stamp | None = None
        self._keys: tuple[AnnouncedKey, ...] = ()
        self._keys_stamp: Stamp | None = None
        self._after_sequence = 0
        self._is_file_due = False
        self._database_answers: bool | None = None
        self._is_missing_key_said = False
        self._reports_are_written = True
        self.confirmed_at_unix = 0.0
        self._wanted = asyncio.Event()
        self._hints = HintListener(partial(connect_to, redis_url), self.hint)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="feed-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="feed-write")
        self._tasks: list[asyncio.Task[None]] = []

    def load(self) -> None:
        """Fill the store from the database, or from the snapshot file when it does not answer.

        Blocking, on the caller's own connection: for tests and commands. Harmless to repeat.
        """
        self._take(self._read())

    async def run(self) -> None:
        """Load, then follow publications and write reports until stopped."""
        self._tasks = [
            asyncio.create_task(self._follow(), name="feed: follow"),
            asyncio.create_task(self._expire_forever(), name="feed: expiry of tokens"),
            asyncio.create_task(self._hints.run(), name="feed: hints"),
            asyncio.create_task(self._flush_forever(), name="feed: reports"),
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
                await self._save()
        self._reader.shutdown(wait=False, cancel_futures=True)
        self._writer.shutdown(wait=False, cancel_futures=True)

    def hint(self) -> None:
        """Look at the database now instead of at the end of the present second."""
        self._wanted.set()

    async def sync(self) -> None:
        """Look at the database once and serve what is new."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._reader, _in_fresh_connection, self._read)
        except DatabaseError as error:  # closing a connection that has gone bad may fail too
            found = error
        self._take(found)

    async def flush(self) -> None:
        """Write the reports that are waiting, in batches.

        A batch that the database cannot take now is kept; one that it refuses is dropped, or it
        would stand in the way of every later one.
        """
        loop = asyncio.get_running_loop()
        while len(self._reports):
            notes = self._reports.take()
            try:
                answers = await loop.run_in_executor(
                    self._writer, _in_fresh_connection, partial(write_reports, notes)
                )
            except (OperationalError, InterfaceError) as error:
                self._reports.give_back(notes)
                self._say_reports_lost(error)
                return
            except DatabaseError as error:
                FEED_FAILURES.labels("write").inc()
                logger.error("reports.refused", error=str(error), count=len(notes))
                continue
            REPORTS_WRITTEN.inc(len(notes))
            if not self._reports_are_written:
                self._reports_are_written = True
                logger.info("reports.back")
            if answers and self._hints.is_connected:
                environments = sorted({note.environment for note in notes if note.marks})
                messages = [{"environment": environment} for environment in environments]
                await loop.run_in_executor(self._writer, send_hints, Channel.REPORTS, messages)

    async def _follow(self) -> None:
        while True:
            self._wanted.clear()
            await self.sync()
            await self._ensure_key()
            await self._save()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONCILE_S):
                    await self._wanted.wait()

    async def _ensure_key(self) -> None:
        """Make the first signing key; every process tries, and one succeeds."""
        if self._signer is None or self._signer.has_keys or not self._database_answers:
            return
        loop = asyncio.get_running_loop()
        now = datetime.fromtimestamp(self._clock(), UTC)
        make = partial(ensure_signing_key, actor=system_actor("delivery"), now=now)
        try:
            await loop.run_in_executor(self._writer, _in_fresh_connection, make)
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

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    def _read(self) -> Changes | DatabaseError:
        try:
            return read_changes(
                after_sequence=self._after_sequence,
                stamp=self._tokens_stamp,
                keys_stamp=self._keys_stamp,
            )
        except DatabaseError as error:
            return error

    def _take(self, found: Changes | DatabaseError) -> None:
        now = self._clock()
        if self._signer is not None:
            self._signer.advance()
        if isinstance(found, DatabaseError):
            self._say_database_lost(found, now)
            return
        if self._database_answers is False:
            logger.info("database.back")
        self._database_answers = True
        self.confirmed_at_unix = now
        is_first = not self._after_sequence
        self._put(found)
        self._store.is_loaded = True
        self._store.behind_since_unix = None
        if not is_first:
            for published in found.publications:
                PUBLISH_TO_SWAP.observe(max(0.0, self._clock() - published.issued_at.timestamp()))

    def _put(self, found: Changes) -> None:
        self._tokens_stamp = found.stamp
        if found.tokens is not None:
            self._token_records = found.tokens
            for key in self._tokens.replace(found.tokens):
                self._store.wake(key)
            self._is_file_due = True
        self._keys_stamp = found.keys_stamp
        if found.keys is not None:
            self._keys = found.keys
            self._is_file_due = True
            if self._signer is not None:
                self._signer.put(found.keys)
        for sequence, problem in found.unreadable:
            logger.error("publication.unreadable", sequence=sequence, error=problem)
        for published in found.publications:
            try:
                is_news = self._store.swap(compile_snapshot(published))
            except (TypeError, ValueError) as error:
                logger.error(
                    "publication.unreadable", sequence=published.sequence, error=repr(error)
                )
                continue
            if is_news:
                cohort = (published.environment, published.service, published.cohort)
                self._published[cohort] = published
                self._is_file_due = True
        self._after_sequence = max(self._after_sequence, found.sequence)

    def _say_database_lost(self, error: DatabaseError, now: float) -> None:
        FEED_FAILURES.labels("read").inc()
        if self._database_answers is not False:
            logger.warning("database.lost", error=str(error), serving="last snapshots")
        self._database_answers = False
        if not self._store.is_loaded:
            self._start_from_file()
        elif now - self.confirmed_at_unix > BEHIND_AFTER_S:
            self._store.behind_since_unix = self.confirmed_at_unix

    def _start_from_file(self) -> None:
        try:
            saved = read_snapshot_file(self._snapshot_file)
        except (OSError, ValueError) as error:
            logger.error("snapshots.unreadable", error=str(error))
            return
        if saved is None:
            return
        newest = max((published.sequence for published in saved.publications), default=0)
        self._put(Changes(saved.publications, newest, saved.tokens, stamp=None, keys=saved.keys))
        self._is_file_due = False
        self.confirmed_at_unix = saved.confirmed_at_unix
        self._store.behind_since_unix = saved.confirmed_at_unix
        self._store.is_loaded = True
        logger.warning("snapshots.restored", count=len(saved.publications))

    def _say_reports_lost(self, error: DatabaseError) -> None:
        FEED_FAILURES.labels("write").inc()
        if self._reports_are_written:
            logger.warning("reports.lost", error=str(error), waiting=len(self._reports))
        self._reports_are_written = False

    async def _save(self) -> None:
        if not self._is_file_due:
            return
        self._is_file_due = False
        published, tokens = tuple(self._published.values()), self._token_records
        keys = self._keys
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(
                self._writer,
                lambda: write_snapshot_file(
                    self._snapshot_file,
                    publications=published,
                    tokens=tokens,
                    keys=keys,
                    confirmed_at_unix=self.confirmed_at_unix,
                ),
            )
        except OSError as error:
            logger.error("snapshots.unwritten", error=str(error))


def _in_fresh_connection(work: Callable[[], Result]) -> Result:
    close_old_connections()
    try:
        return work()
    finally:
        close_old_connections()

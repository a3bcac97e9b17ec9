"""Writing down what is served before it is served, without ever waiting long for a disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog

from controlplane.delivery.services.instruments import FEED_FAILURES, SNAPSHOTS_LATE
from controlplane.delivery.services.snapshot_file import (
    News,
    SavedSnapshots,
    read_snapshot_file,
)
from controlplane.delivery.services.snapshot_log import SnapshotLog

WAIT_AT_MOST_S = 0.05
CLOSED_WITHIN_S = 2.0

logger = structlog.get_logger(__name__)


class SnapshotMemory:
    """What this delivery process has served, kept in its snapshot file.

    A process that was killed and starts again while the database is away serves nothing lower
    than it did before, because `add` comes before the swap. A disk that is slow or full costs a
    publication at most 50 ms: it is served all the same, and written as soon as that is possible.
    Instances do not depend on the file either way: whoever presents a higher sequence than this
    process holds is never answered a lower one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = SnapshotLog(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed-file")
        self._news = News()
        self._confirmed_at_unix = 0.0
        self._waiting: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_written = True

    def recall(self) -> SavedSnapshots | None:
        """Return what the file holds; None when there is no file, or none that can be used.

        Blocking. A file that is damaged is kept under another name, so that somebody can look at
        it; unless another process keeps it, whose record may be half written at this moment. One
        that is good in part stays in its place until another is written: the next start may need
        it. To be called once, before anything is added.
        """
        try:
            self._log.lock()
        except OSError as error:
            is_ours, reason = False, str(error)
        else:
            is_ours, reason = True, ""
        try:
            saved = read_snapshot_file(self._path)
        except ValueError as error:
            kept = self._set_aside() if is_ours else reason
            logger.error("snapshots.unreadable", error=str(error), kept=kept)
            return None
        except OSError as error:
            logger.error("snapshots.unreadable", error=str(error))
            return None
        if saved is None:
            return None
        if saved.damaged_at is not None:
            logger.error(
                "snapshots.damaged",
                file=str(self._path),
                from_byte=saved.damaged_at,
                publications=len(saved.publications),
                kept=self._keep_copy() if is_ours else reason,
            )
        self._log.remember(News(saved.publications, saved.tokens, saved.keys))
        return saved

    async def add(self, news: News, *, confirmed_at_unix: float) -> None:
        """Write down what is about to be served; returns after 50 ms at the latest."""
        self._news = self._news.then(news)
        self._confirmed_at_unix = confirmed_at_unix
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        waiting = self._waiting
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_all(), name="feed: file")
        await asyncio.wait({waiting}, timeout=WAIT_AT_MOST_S)
        if not waiting.done():
            SNAPSHOTS_LATE.inc()

    async def close(self) -> None:
        """Write what is still waiting, and let go of the file; returns within about 2 s."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSED_WITHIN_S):
                if self._task is not None:
                    await self._task
                await self._do(self._log.close)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _write_all(self) -> None:
        while self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            news, self._news = self._news, News()
            await self._do(partial(self._log.add, news, confirmed_at_unix=self._confirmed_at_unix))
            if not waiting.done():
                waiting.set_result(None)
            # Nobody waits for this: what was added outlives this process as it is.
            await self._do(self._log.sync)

    async def _do(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OSError as error:
            FEED_FAILURES.labels("file").inc()
            if self._is_written:
                logger.error("snapshots.unwritten", file=str(self._path), error=str(error))
            self._is_written = False
        else:
            if not self._is_written and self._log.is_whole:
                self._is_written = True
                logger.info("snapshots.written", file=str(self._path))

    def _set_aside(self) -> str:
        kept = self._path.with_suffix(".damaged")
        try:
            os.replace(self._path, kept)
        except OSError as error:
            return f"could not be kept: {error}"
        return str(kept)

    def _keep_copy(self) -> str:
        kept = self._path.with_suffix(".damaged")
        try:
            kept.unlink(missing_ok=True)
            kept.hardlink_to(self._path)  # what is written next is another file
        except OSError as error:
            return f"could not be kept: {error}"
        return str(kept)

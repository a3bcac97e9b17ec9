"""Keeping the snapshot file: records added as they are served, and a fresh file now and then.

All of it is blocking; the feed gives it a thread of its own.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from controlplane.delivery.services.snapshot_file import (
    LaneKey,
    News,
    confirmed_record,
    format_record,
    key_of,
    keys_record,
    publication_record,
    tokens_record,
)

REWRITE_FROM_BYTES = 1 << 20
SYNC_EVERY_S = 1.0
CONFIRM_EVERY_S = 10.0
TRY_AGAIN_AFTER_S = 5.0  # a file of 10,000 services is 40 MB: not with every look
UNFINISHED = ".unfinished"


class SharedStateDirectory(OSError):
    """Another process keeps the snapshot file of this state directory."""


class SnapshotLog:
    """The snapshot file as one process keeps it; only this user may read it.

    `add` returns when the operating system has the records: they outlive this process however it
    ends. They outlive the machine when it has run for about another second. The file is written
    anew, beside the old one, once more than half of it says what no longer holds, and whenever
    adding to it failed. What is kept in memory is each record as it is written, once.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock: int | None = None
        self._file: int | None = None
        self._added_bytes = 0
        self._base_bytes = 0
        self._synced_at_s = 0.0
        self._confirmed_at_s = 0.0
        self._is_synced = True
        self._failure: OSError | None = None
        self._failed_at_s = 0.0
        self._publications: dict[LaneKey, bytes] = {}
        self._tokens = tokens_record(())
        self._keys = keys_record(())
        self._confirmed_at_unix = 0.0

    @property
    def is_whole(self) -> bool:
        """Say whether everything added so far is in the file."""
        return self._file is not None

    def lock(self) -> None:
        """Keep every other process from writing the file until `close`; harmless to repeat.

        Raises:
            SharedStateDirectory: another process keeps it.
            OSError: the directory is not there, or cannot be written.
        """
        if self._lock is not None:
            return
        lock = os.open(
            self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise SharedStateDirectory(
                f"another process keeps {self._path}: give each its own TIDEGATE_STATE_DIR"
            ) from None
        self._lock = lock

    def remember(self, news: News) -> None:
        """Take up what is already in the file, without writing it."""
        for published in news.publications:
            self._publications[key_of(published)] = publication_record(published)
        if news.tokens is not None:
            self._tokens = tokens_record(news.tokens)
        if news.keys is not None:
            self._keys = keys_record(news.keys)

    def add(self, news: News, *, confirmed_at_unix: float) -> None:
        """Add what is about to be served.

        Raises:
            OSError: it could not be written; a later call writes everything.
        """
        self.remember(news)
        self._confirmed_at_unix = confirmed_at_unix
        if self._file is None or self._added_bytes > max(REWRITE_FROM_BYTES, self._base_bytes):
            self._try_to_rewrite()
            return
        records = [self._publications[key_of(published)] for published in news.publications]
        if news.tokens is not None:
            records.append(self._tokens)
        if news.keys is not None:
            records.append(self._keys)
        if records or self._clock() - self._confirmed_at_s >= CONFIRM_EVERY_S:
            records.append(confirmed_record(confirmed_at_unix))
            self._append(b"".join(records))
            self._confirmed_at_s = self._clock()

    def sync(self) -> None:
        """Let what was added outlive the machine; at most once a second, else nothing happens.

        Raises:
            OSError: the disk failed; a later `add` writes everything.
        """
        if self._file is None or self._is_synced:
            return
        if self._clock() - self._synced_at_s >= SYNC_EVERY_S:
            self._synced_at_s = self._clock()
            try:
                os.fdatasync(self._file)
            except OSError:
                self._forget_file()
                raise
            self._is_synced = True

    def close(self) -> None:
        """Write down the last confirmation, and let another process keep the file."""
        try:
            if self._file is not None:
                self._append(confirmed_record(self._confirmed_at_unix))
                os.fdatasync(self._file)
        finally:
            self._forget_file()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _append(self, records: bytes) -> None:
        assert self._file is not None  # noqa: S101 (for the reader: callers looked)
        try:
            if os.write(self._file, records) != len(records):
                raise OSError(f"{self._path} took only a part of a record: is the disk full?")
        except OSError:
            # It may end in half a record now, and whatever followed could not be read.
            self._forget_file()
            raise
        self._added_bytes += len(records)
        self._is_synced = False

    def _try_to_rewrite(self) -> None:
        if self._failure is not None and self._clock() - self._failed_at_s < TRY_AGAIN_AFTER_S:
            raise self._failure
        try:
            self._rewrite()
        except OSError as failure:
            self._failure, self._failed_at_s = failure, self._clock()
            raise
        self._failure = None

    def _rewrite(self) -> None:
        self._forget_file()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.lock()
        for left in self._path.parent.glob(f"{self._path.name}.*{UNFINISHED}"):
            left.unlink(missing_ok=True)  # by a process that was killed while it wrote
        # mkstemp makes the file for this user alone (0600), before anything is in it.
        descriptor, temporary = tempfile.mkstemp(
            prefix=f"{self._path.name}.", suffix=UNFINISHED, dir=self._path.parent
        )
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(format_record())
                # At the beginning too: a file that is damaged further on still has an age.
                file.write(confirmed_record(self._confirmed_at_unix))
                file.write(self._tokens)
                file.write(self._keys)
                for record in self._publications.values():
                    file.write(record)
                file.write(confirmed_record(self._confirmed_at_unix))
                file.flush()
                os.fsync(descriptor)
                self._base_bytes = file.tell()
            os.replace(temporary, self._path)
            _sync_directory(self._path.parent)
        except BaseException:
            os.close(descriptor)
            Path(temporary).unlink(missing_ok=True)
            raise
        self._file = descriptor
        self._added_bytes = 0
        self._is_synced = True
        self._confirmed_at_s = self._clock()

    def _forget_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

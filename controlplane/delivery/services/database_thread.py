"""Database work off the event loop, none of which can hold up the feed for longer than a bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connections
from django.db import Error as DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

PATIENCE_S = 5.0  # all of 10,000 services take 2
AT_MOST_S = 40.0
MOST_GIVEN_UP = 4
CLOSED_WITHIN_S = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], Any]
    outcome: Future[Any]


class DatabaseThread:
    """One thread with a connection of its own, for work that may be done twice.

    A server that is frozen, or a network that swallows packets, answers nothing and refuses
    nothing. Work that takes longer than its bound is given up: its connection is cut, so that its
    thread ends, and the next work gets a new thread with a new connection. A connection is kept
    between works; one that turns out to have died meanwhile is replaced at once.

    The bound is `patience_s`, twice that for the next work after one that took too long, and so
    on up to `at_most_s`: work that is merely slow gets done, after a while.
    """

    def __init__(
        self, name: str, *, patience_s: float = PATIENCE_S, at_most_s: float = AT_MOST_S
    ) -> None:
        self._name = name
        self._first_patience_s = self._patience_s = patience_s
        self._at_most_s = at_most_s
        self._worker: _Worker | None = None
        self._given_up: list[_Worker] = []

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns.

        Raises:
            DatabaseError: whatever `work` met; OperationalError when it took too long, or when
                too many works that were given up have not ended yet.
        """
        within_s = self._patience_s
        worker = self._free_worker()
        outcome: Future[Result] = Future()
        worker.jobs.put(_Job(work, outcome))
        try:
            async with asyncio.timeout(within_s):
                result = await asyncio.wrap_future(outcome)
        except TimeoutError:
            self._give_up(worker)
            self._patience_s = min(within_s * 2, self._at_most_s)
            raise OperationalError(f"the database did not answer within {within_s:g} s") from None
        self._patience_s = self._first_patience_s
        return result

    async def close(self) -> None:
        """Close the connection and end the thread; returns within about 1 s."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        closed: Future[None] = Future()
        worker.jobs.put(closed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSED_WITHIN_S):
                await asyncio.wrap_future(closed)

    def _free_worker(self) -> _Worker:
        if self._worker is None:
            self._given_up = [worker for worker in self._given_up if worker.is_alive()]
            if len(self._given_up) >= MOST_GIVEN_UP:
                raise OperationalError(
                    f"{MOST_GIVEN_UP} works on the database hang, so no more are begun"
                )
            self._worker = _Worker(self._name)
            self._worker.start()
        return self._worker

    def _give_up(self, worker: _Worker) -> None:
        self._worker = None
        self._given_up.append(worker)
        worker.jobs.put(Future())
        worker.cut()


class _Worker(threading.Thread):
    """A daemon: a thread that hangs must not keep the process from ending."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.jobs: SimpleQueue[_Job | Future[None]] = SimpleQueue()
        self._database: BaseDatabaseWrapper | None = None
        self._is_cut = False

    def run(self) -> None:
        self._database = database = connections[DEFAULT_DB_ALIAS]
        while True:
            job = self.jobs.get()
            if isinstance(job, Future):
                _close(database)
                job.set_result(None)
                return
            if not job.outcome.set_running_or_notify_cancel():
                continue
            try:
                job.outcome.set_result(self._do(database, job.work))
            except BaseException as error:
                job.outcome.set_exception(error)

    def cut(self) -> None:
        """End the present connection from outside, so that whoever waits on it wakes up."""
        self._is_cut = True
        connection: Any = None if self._database is None else self._database.connection
        # It may end by itself at this very moment, or be no connection by socket.
        with contextlib.suppress(Exception):
            if self._database is not None and self._database.vendor == "sqlite":
                connection.interrupt()
            else:
                with socket.socket(fileno=os.dup(connection.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)

    def _do(self, database: BaseDatabaseWrapper, work: Callable[[], Result]) -> Result:
        was_kept = database.connection is not None
        try:
            try:
                return work()
            except (OperationalError, InterfaceError):
                if not was_kept or self._is_cut:
                    raise
                # It died while it was idle: that says nothing about the server that is there now.
                _close(database)
                return work()
        except BaseException:
            _close(database)
            raise
        finally:
            # An SQLite file may be replaced by its backup, which an open connection would not
            # see; opening it anew takes a tenth of a millisecond.
            if database.vendor == "sqlite":
                _close(database)


def _close(database: BaseDatabaseWrapper) -> None:
    with contextlib.suppress(DatabaseError):  # one that has gone bad may fail to close, too
        database.close()

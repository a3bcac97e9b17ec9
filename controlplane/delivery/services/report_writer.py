"""What instances report, from the hot path's buffer into the database, in its own time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import structlog
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from controlplane.delivery.hotpath.reports import InstanceNote, ReportBuffer
from controlplane.delivery.services.database_thread import DatabaseThread
from controlplane.delivery.services.hints import HintListener
from controlplane.delivery.services.instruments import FEED_FAILURES, REPORTS_WRITTEN
from controlplane.delivery.services.reports import write_reports
from controlplane.kernel.channels import Channel
from controlplane.kernel.hints import send_hints
from controlplane.registry.services.instances import InstanceKey

FLUSH_S = 0.25
LOST_FLUSH_S = 1.0
POSTPONED_S = 2.0
BUSY_AGAIN_S = 0.05

logger = structlog.get_logger(__name__)


class ReportWriter:
    """Writes reports in batches on a thread of its own, and keeps them while it cannot."""

    def __init__(
        self, reports: ReportBuffer, hints: HintListener, *, is_busy: Callable[[], bool]
    ) -> None:
        self._is_busy = is_busy
        self._reports = reports
        self._hints = hints
        self._thread = DatabaseThread("feed-write")
        self._is_written = True
        self._known: dict[InstanceKey, int] = {}

    async def run(self) -> None:
        """Write what waits, every quarter of a second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S if self._is_written else LOST_FLUSH_S)
            await self._let_others_first()
            await self.flush()

    async def flush(self) -> None:
        """Write the reports that are waiting, in batches.

        A batch that the database cannot take now is kept; one that it refuses is dropped, or it
        would stand in the way of every later one.
        """
        while len(self._reports):
            notes = self._reports.take()
            try:
                answers = await self._thread.run(partial(write_reports, notes, self._known))
            except (OperationalError, InterfaceError) as error:
                self._reports.give_back(notes)
                self._say_lost(error)
                return
            except asyncio.CancelledError:
                self._reports.give_back(notes)  # writing them twice changes nothing
                raise
            except DatabaseError as error:
                FEED_FAILURES.labels("write").inc()
                logger.error("reports.refused", error=str(error), count=len(notes))
                continue
            REPORTS_WRITTEN.inc(len(notes))
            if not self._is_written:
                self._is_written = True
                logger.info("reports.back")
            if answers and self._hints.is_connected:
                await self._tell_of_answers(notes)

    async def _let_others_first(self) -> None:
        """Wait while those whom a publication woke are answered, for a while.

        Both take the processor, and Python's lock; a publication must not wait for a report.
        """
        deadline_s = time.monotonic() + POSTPONED_S
        # An event would be paid for by every waiter.
        while self._is_busy() and time.monotonic() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(BUSY_AGAIN_S)

    async def close(self) -> None:
        """End the thread and its connection; returns within about 1 s."""
        await self._thread.close()

    async def _tell_of_answers(self, notes: list[InstanceNote]) -> None:
        environments = sorted({note.environment for note in notes if note.marks})
        messages = [{"environment": environment} for environment in environments]
        await asyncio.to_thread(send_hints, Channel.REPORTS, messages)

    def _say_lost(self, error: DatabaseError) -> None:
        FEED_FAILURES.labels("write").inc()
        if self._is_written:
            logger.warning("reports.lost", error=str(error), waiting=len(self._reports))
        self._is_written = False

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
MOST_REFUSED = 16

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

        A batch that the database cannot take now is kept. What it refuses is dropped, or it would
        stand in the way of every later one.
        """
        while len(self._reports):
            notes = self._reports.take()
            try:
                answers = await self._write(notes)
            except (OperationalError, InterfaceError) as error:
                self._reports.give_back(notes)
                self._say_lost(error)
                return
            except asyncio.CancelledError:
                self._reports.give_back(notes)  # writing them twice changes nothing
                raise
            if not self._is_written:
                self._is_written = True
                logger.info("reports.back")
            if answers and self._hints.is_connected:
                await self._tell_of_answers(notes)

    async def _write(self, notes: list[InstanceNote]) -> int:
        """Write one batch; return how many answers to publications it holds.

        A batch that is refused is written by halves, so that one note costs the others nothing:
        batches hold those of many services. When more than MOST_REFUSED were found in it, the
        rest is not worth the search.

        Raises:
            OperationalError, InterfaceError: the database is not there; part may be written.
        """
        answers = refused = 0
        parts = [notes]
        while parts:
            part = parts.pop()
            try:
                answers += await self._thread.run(partial(write_reports, part, self._known))
                REPORTS_WRITTEN.inc(len(part))
            except (OperationalError, InterfaceError):
                raise
            except DatabaseError as error:
                if len(part) > 1 and refused < MOST_REFUSED:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                    continue
                refused += 1
                _say_refused(part, error)
        return answers

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


def _say_refused(notes: list[InstanceNote], error: DatabaseError) -> None:
    FEED_FAILURES.labels("write").inc()
    first = notes[0]
    logger.error(
        "reports.refused", error=str(error), count=len(notes),
        service=f"{first.environment}/{first.service}", instance=first.instance_id,
    )  # fmt: skip

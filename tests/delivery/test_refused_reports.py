"""Reports that the database refuses: they are dropped, and cost the others nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest
from django.db import DataError, OperationalError
from structlog.testing import capture_logs

from controlplane.delivery.hotpath.reports import InstanceNote, ReportBuffer
from controlplane.delivery.services import report_writer as writer_module
from controlplane.delivery.services.hints import HintListener, connect_to
from controlplane.delivery.services.report_writer import MOST_REFUSED, ReportWriter
from controlplane.registry.models import Instance
from tests.delivery.builders import NOW

NOWHERE = HintListener(partial(connect_to, "redis://127.0.0.1:1/0"), lambda: None)


class Database:
    """Takes notes in whole batches, unless one of a batch has a name with "bad" in it."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.batches = 0
        self.lasts_batches = 1_000_000

    def write(self, notes: Sequence[InstanceNote], known: object) -> int:
        self.batches += 1
        if self.batches > self.lasts_batches:
            raise OperationalError("the connection is lost")
        if any("bad" in note.instance_id for note in notes):
            raise DataError("text fields cannot contain NUL (0x00) bytes")
        self.written += [note.instance_id for note in notes]
        return len(notes)


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    made = Database()
    monkeypatch.setattr(writer_module, "write_reports", made.write)
    return made


async def flush(names: Sequence[str]) -> ReportBuffer:
    """Write a note of each of these instances; return what waits afterwards."""
    return await write([InstanceNote("prod", "checkout", name, 0.0) for name in names])


async def write(notes: list[InstanceNote]) -> ReportBuffer:
    reports = ReportBuffer()
    reports.give_back(notes)
    writer = ReportWriter(reports, NOWHERE, is_busy=lambda: False)
    try:
        await writer.flush()
    finally:
        await writer.close()
    return reports


async def test_one_bad_note_costs_the_others_nothing_and_is_said_once(database: Database) -> None:
    names = [f"checkout-{number}" for number in range(1000)]

    with capture_logs() as lines:
        left = await flush([*names[:617], "bad-1", *names[617:]])

    assert sorted(database.written) == sorted(names)
    assert len(left) == 0
    (line,) = lines
    assert (line["event"], line["count"]) == ("reports.refused", 1)
    assert (line["service"], line["instance"]) == ("prod/checkout", "bad-1")
    assert database.batches <= 21


async def test_a_batch_of_bad_notes_is_not_searched_to_the_end(database: Database) -> None:
    with capture_logs() as lines:
        left = await flush([f"bad-{number}" for number in range(2000)])

    assert len(left) == 0
    assert database.written == []
    assert sum(line["count"] for line in lines) == 2000
    assert len(lines) <= MOST_REFUSED + 12
    assert database.batches < 60


async def test_a_database_that_goes_away_in_between_gets_everything_again(
    database: Database,
) -> None:
    database.lasts_batches = 2

    left = await flush(["checkout-1", "bad-1", "checkout-2"])

    assert database.written == ["checkout-1"]
    assert [note.instance_id for note in left.take()] == ["checkout-1", "bad-1", "checkout-2"]


def test_text_that_not_every_database_can_hold_costs_the_others_nothing(
    transactional_db: None,
) -> None:
    notes = [
        InstanceNote("prod", "checkout", name, NOW.timestamp(), sdk=sdk, has_report=True)
        for name, sdk in (("checkout-1", "envoy"), ("checkout-2", "en\0voy"), ("checkout-3", ""))
    ]

    left = asyncio.run(write(notes))

    assert len(left) == 0
    written = set(Instance.objects.values_list("instance_id", flat=True))
    assert written - {"checkout-2"} == {"checkout-1", "checkout-3"}

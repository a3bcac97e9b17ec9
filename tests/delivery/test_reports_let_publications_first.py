"""Writing down what instances say waits for those whom a publication has just woken."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest

from controlplane.delivery.hotpath.reports import InstanceNote
from controlplane.delivery.services import report_writer as writer_module
from controlplane.delivery.services.hints import HintListener, connect_to
from controlplane.delivery.services.report_writer import ReportWriter
from tests.delivery.builders import Client, begin, make_plane, snapshot
from tests.waiting import eventually

NOWHERE = HintListener(partial(connect_to, "redis://127.0.0.1:1/0"), lambda: None)


@asynccontextmanager
async def writing(
    monkeypatch: pytest.MonkeyPatch, is_busy: Callable[[], bool]
) -> AsyncIterator[list[str]]:
    """Run a writer with one report waiting; yield the instances that were written."""
    written: list[str] = []

    def record(notes: Sequence[InstanceNote], known: object) -> int:
        written.extend(note.instance_id for note in notes)
        return 0

    monkeypatch.setattr(writer_module, "write_reports", record)
    monkeypatch.setattr(writer_module, "FLUSH_S", 0.01)
    monkeypatch.setattr(writer_module, "BUSY_AGAIN_S", 0.001)
    plane = make_plane()
    await begin(plane, Client(), headers={"Tidegate-Instance": "checkout-1"})
    writer = ReportWriter(plane.reports, NOWHERE, is_busy=is_busy)
    task = asyncio.create_task(writer.run())
    try:
        yield written
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await writer.close()


async def test_nothing_is_written_while_waiters_are_being_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    def is_busy() -> bool:
        nonlocal asked
        if written:
            return False
        asked += 1
        return asked <= 20

    monkeypatch.setattr(writer_module, "POSTPONED_S", math.inf)  # however slow this machine is

    async with writing(monkeypatch, is_busy) as written:
        await eventually(lambda: written)

    assert written == ["checkout-1"]
    assert asked == 21


async def test_reports_are_written_after_a_while_however_busy_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer_module, "POSTPONED_S", 0.02)

    async with writing(monkeypatch, lambda: True) as written:
        await eventually(lambda: written)

    assert written == ["checkout-1"]


async def test_a_store_is_waking_until_the_last_waiter_has_been_answered() -> None:
    plane = make_plane(snapshot(7), max_parked=1_000)
    clients = [Client() for _ in range(200)]
    parked = [
        begin(plane, client, headers={"If-None-Match": '"7-0-9f3c"', "Prefer": "wait=30"})
        for client in clients
    ]
    await eventually(lambda: plane.config.held_count == len(clients))

    plane.store.swap(snapshot(8))
    was_waking = plane.store.is_waking
    await asyncio.gather(*parked)

    assert was_waking
    assert not plane.store.is_waking
    assert {client.reply().status for client in clients} == {200}

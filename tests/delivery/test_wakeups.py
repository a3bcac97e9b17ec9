"""Whoever was woken looks again, and nobody waits for the many who wait for something else."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from structlog.testing import capture_logs

from controlplane.delivery.hotpath import wakeups as wakeups_module
from controlplane.delivery.hotpath.lanes import Lane
from controlplane.delivery.hotpath.wakeups import IN_A_ROW, Wakeups
from tests.delivery.builders import NOW, let_others_run, snapshot
from tests.waiting import eventually


class Waiting:
    instance: bytes | None = None

    def __init__(self, name: str, looked: list[str]) -> None:
        self._name = name
        self._looked = looked

    def look(self) -> None:
        self._looked.append(self._name)
        if self._name == "broken":
            raise RuntimeError("a defect")


def lane_of(names: list[str], looked: list[str]) -> Lane:
    lane = Lane(snapshot(7), NOW.timestamp())
    for name in names:
        lane.waiters[Waiting(name, looked)] = None
    return lane


async def test_one_services_many_waiters_do_not_keep_anothers_waiting() -> None:
    wakeups, looked = Wakeups(), list[str]()
    wakeups.add(lane_of([f"many {number}" for number in range(20_000)], looked))
    wakeups.add(lane_of(["one"], looked))

    await eventually(lambda: not wakeups.is_busy)

    assert looked.index("one") == IN_A_ROW
    assert [name for name in looked if name != "one"] == [f"many {n}" for n in range(20_000)]


async def test_everybody_else_runs_between_the_slices_of_those_who_are_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A look at the clock costs more than half of a slice: one row of waiters fits into each.
    monkeypatch.setattr(wakeups_module, "SLICE_S", 5)
    monkeypatch.setattr(wakeups_module, "perf_counter", count(step=3).__next__)
    wakeups, looked = Wakeups(), list[str]()
    wakeups.add(lane_of([f"{number}" for number in range(20)], looked))
    after_each_turn = []

    while wakeups.is_busy:
        await asyncio.sleep(0)
        after_each_turn.append(len(looked))

    assert after_each_turn == [IN_A_ROW, 2 * IN_A_ROW, 20]


async def test_a_waiter_that_fails_leaves_nobody_asleep() -> None:
    wakeups, looked = Wakeups(), list[str]()
    names = ["first", "broken", *[f"{number}" for number in range(20)]]
    lane = lane_of(names, looked)
    with capture_logs() as lines:
        wakeups.add(lane)
        await let_others_run()

    assert looked == names
    assert (lane.waiters, wakeups.is_busy) == ({}, False)
    assert [line["event"] for line in lines] == ["waiter.failed"]

"""Whoever was woken looks again, and nobody waits for the many who wait for something else."""

from __future__ import annotations

from structlog.testing import capture_logs

from controlplane.delivery.hotpath.lanes import Lane
from controlplane.delivery.hotpath.wakeups import IN_A_ROW, Wakeups
from tests.delivery.builders import NOW, let_others_run, snapshot
from tests.delivery.wire_server import until


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

    await until(lambda: not wakeups.is_busy)

    assert looked.index("one") == IN_A_ROW
    assert [name for name in looked if name != "one"] == [f"many {n}" for n in range(20_000)]


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

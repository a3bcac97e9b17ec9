"""One asyncio client on one event loop after another, as with asyncio.run, and what dies there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.sdk.following import NOON, Follower, ok, publication, unchanged
from tests.sdk.forking import run_forking
from tests.sdk.inbound import FakeClock, until
from tests.sdk.real_plane import RealPlane
from tests.waiting import HUNG_S, eventually


def follower_of(*answers: httpx.Response) -> Follower:
    follower = Follower()
    follower.control_plane.answers = [*answers, *(unchanged() for _ in range(1000))]
    return follower


def test_it_follows_on_a_second_loop_as_on_the_first() -> None:
    follower = follower_of(ok(publication(7, shed_level=2, scheduled=[(NOON + 20, 0)])))

    async def first() -> None:
        await follower.client.start(first_answer_s=HUNG_S)
        assert (follower.client.sequence, follower.level) == (7, 2)
        await follower.client.stop()

    async def second() -> None:
        asked = len(follower.control_plane.polls)
        follower.control_plane.answers.insert(0, ok(publication(8, 1, [(NOON + 20, 0)])))
        await follower.client.start(first_answer_s=HUNG_S)
        assert (follower.client.sequence, follower.level) == (8, 1)
        assert len(follower.control_plane.polls) > asked
        follower.clock.advance(20)
        follower.client._adoption.clock_learned.set()
        await until(lambda: follower.level == 0)
        await follower.client.stop()

    asyncio.run(first())
    asyncio.run(second())


def test_a_client_whose_loop_ended_under_it_is_started_by_the_next_start() -> None:
    follower = follower_of(ok(publication(7)), ok(publication(7)))
    asyncio.run(follower.client.start(first_answer_s=HUNG_S))
    follower.control_plane.answers.insert(0, ok(publication(8, shed_level=2)))

    async def again() -> None:
        await follower.client.start(first_answer_s=HUNG_S)
        assert (follower.client.sequence, follower.level) == (8, 2)
        await follower.client.stop()

    asyncio.run(again())


@contextmanager
def loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(end_all_tasks(), loop).result(HUNG_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(HUNG_S)
        loop.close()


async def end_all_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def test_who_starts_it_on_another_loop_takes_it_from_the_first() -> None:
    follower = follower_of(ok(publication(7)))

    async def elsewhere(first: asyncio.AbstractEventLoop) -> None:
        await follower.client.start(first_answer_s=HUNG_S)
        await eventually(lambda: not asyncio.all_tasks(first), what="the end of its first tasks")
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert names >= {"tidegate-follow", "tidegate-clock"}
        await follower.client.stop()

    with loop_in_a_thread() as loop:
        starting = follower.client.start(first_answer_s=HUNG_S)
        asyncio.run_coroutine_threadsafe(starting, loop).result(HUNG_S)
        asyncio.run(elsewhere(loop))


class ClockThatFailsOnce(FakeClock):
    """Fails the task that follows the schedule, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = NOON
        self.fails = False

    def __call__(self) -> float:
        task = asyncio.current_task() if self.fails else None
        if task is not None and task.get_name() == "tidegate-clock":
            self.fails = False
            raise OSError("no clock")
        return super().__call__()


async def test_an_accident_while_it_follows_the_schedule_is_said_and_the_schedule_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ClockThatFailsOnce()
    follower = Follower(clock=clock)
    follower.control_plane.answers = [
        ok(publication(7, shed_level=2, scheduled=[(NOON + 20, 0)])),
        *[unchanged() for _ in range(1000)],
    ]
    monkeypatch.setattr("tidegate.client.LOOK_AT_CLOCK_S", 0.0)
    await follower.client.start(first_answer_s=HUNG_S)

    clock.fails = True
    follower.client._adoption.clock_learned.set()
    await until(lambda: not clock.fails)
    clock.advance(20)
    await until(lambda: follower.level == 0)
    await follower.client.stop()

    assert "following the schedule failed in a way that nobody foresaw" in caplog.text


PRELOADED = """
import asyncio, logging, os, sys
import tidegate
from tests.sdk.patience import be_patient

be_patient()
logging.getLogger("tidegate").setLevel(logging.ERROR)
client = tidegate.PolicyClient(sys.argv[1], "prod", "checkout", "tgs_x", transport="poll")

async def work():
    await client.start(first_answer_s=60)
    await client.stop()

workers = []
for _ in range(2):
    worker = os.fork()
    if worker == 0:
        asyncio.run(work())
        os._exit(0 if client.sequence == 7 else 1)
    workers.append(worker)
assert [os.waitpid(worker, 0)[1] for worker in workers] == [0, 0]
print(client.instance_id)
"""


def test_workers_of_a_preloaded_application_are_instances_of_their_own(plane: RealPlane) -> None:
    of_parent = run_forking(PRELOADED, plane.url).strip()

    assert len(plane.instances) == 2
    assert of_parent not in plane.instances

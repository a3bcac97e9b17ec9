"""Database work that hangs costs its bound, never the feed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from django.db import DataError, OperationalError, connection

from controlplane.delivery.services import database_thread as thread_module
from controlplane.delivery.services.database_thread import DatabaseThread
from tests.waiting import HUNG_S, not_hung


@pytest.fixture
async def thread(transactional_db: None) -> AsyncIterator[DatabaseThread]:
    thread = DatabaseThread("test")
    yield thread
    await thread.close()


def ask_one() -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0], threading.get_ident()


async def test_work_is_done_on_one_thread_off_the_loop(thread: DatabaseThread) -> None:
    first = await thread.run(ask_one)
    second = await thread.run(ask_one)

    assert first == second
    assert first[1] != threading.get_ident()


async def hang(thread: DatabaseThread, never: threading.Event) -> str:
    """Do work that hangs, and let all the time pass that it may take; return what is said then.

    Not before it has begun: what was given up while it waited for its thread hangs nowhere.
    """
    loop, has_begun = asyncio.get_running_loop(), asyncio.Event()

    def work() -> None:
        loop.call_soon_threadsafe(has_begun.set)
        never.wait(HUNG_S)

    running = asyncio.ensure_future(thread.run(work))
    async with not_hung():
        await has_begun.wait()
    now_s, passed_s = loop.time, thread._patience_s
    loop.time = lambda: now_s() + passed_s  # type: ignore[method-assign]
    with pytest.raises(OperationalError) as caught:
        await running
    return str(caught.value)


async def test_work_that_hangs_is_given_up_and_the_next_is_done(
    thread: DatabaseThread, never: threading.Event
) -> None:
    said = await hang(thread, never)
    answer, _ = await thread.run(ask_one)

    assert (said, answer) == (f"the database did not answer within {HUNG_S:g} s", 1)


async def test_works_that_hang_do_not_pile_up(
    thread: DatabaseThread, never: threading.Event
) -> None:
    for _ in range(thread_module.MOST_GIVEN_UP):
        assert "did not answer" in await hang(thread, never)

    with pytest.raises(OperationalError, match="no more are begun"):
        await thread.run(ask_one)
    never.set()
    for worker in thread._given_up:
        await asyncio.to_thread(worker.join, HUNG_S)
    answer, _ = await thread.run(ask_one)

    assert answer == 1


async def test_work_that_is_merely_slow_gets_more_time_with_each_attempt(
    never: threading.Event,
) -> None:
    thread, is_free = DatabaseThread("test", patience_s=0.01, at_most_s=10.0), never
    for _ in range(3):
        with pytest.raises(OperationalError, match="did not answer"):
            await thread.run(lambda: is_free.wait(HUNG_S))
    patience_s = thread._patience_s
    thread._patience_s = HUNG_S  # however long a busy machine takes to start a thread
    is_free.set()

    assert await thread.run(lambda: is_free.wait(HUNG_S))

    assert (patience_s, thread._patience_s) == (0.08, 0.01)


async def test_an_error_of_the_work_is_raised_and_costs_nothing_later(
    thread: DatabaseThread,
) -> None:
    def fail() -> None:
        raise DataError("value too long")

    with pytest.raises(DataError, match="too long"):
        await thread.run(fail)

    assert (await thread.run(ask_one))[0] == 1


@pytest.mark.only_on("postgresql")  # a connection to SQLite is not kept
async def test_a_connection_that_died_while_idle_is_replaced_at_once(
    thread: DatabaseThread,
) -> None:
    def end_it() -> None:
        connection.ensure_connection()
        assert connection.connection is not None
        connection.connection.close()

    await thread.run(end_it)

    assert (await thread.run(ask_one))[0] == 1


async def test_no_connection_is_left_open(thread: DatabaseThread) -> None:
    def keep() -> object:
        connection.ensure_connection()
        return connection

    kept = await thread.run(keep)
    await thread.close()

    assert kept.connection is None  # type: ignore[attr-defined]

"""Database work that hangs costs its bound, never the feed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from django.db import DataError, OperationalError, connection

from controlplane.delivery.services import database_thread as thread_module
from controlplane.delivery.services.database_thread import DatabaseThread


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


async def test_work_that_hangs_is_given_up_and_the_next_is_done(thread: DatabaseThread) -> None:
    never = threading.Event()

    thread._patience_s = 0.05
    with pytest.raises(OperationalError, match=r"did not answer within 0\.05 s"):
        await thread.run(lambda: never.wait(10))
    thread._patience_s = 5.0
    answer, _ = await thread.run(ask_one)

    assert answer == 1
    never.set()


async def test_works_that_hang_do_not_pile_up(thread: DatabaseThread) -> None:
    never = threading.Event()
    for _ in range(thread_module.MOST_GIVEN_UP):
        thread._patience_s = 0.01
        with pytest.raises(OperationalError, match="did not answer"):
            await thread.run(lambda: never.wait(10))

    with pytest.raises(OperationalError, match="no more are begun"):
        await thread.run(ask_one)
    never.set()
    for worker in thread._given_up:
        await asyncio.to_thread(worker.join, 5)
    thread._patience_s = 5.0
    answer, _ = await thread.run(ask_one)

    assert answer == 1


async def test_work_that_is_merely_slow_gets_more_time_with_each_attempt() -> None:
    thread = DatabaseThread("test", patience_s=0.01, at_most_s=10.0)
    is_free = threading.Event()
    for _ in range(3):
        with pytest.raises(OperationalError, match="did not answer"):
            await thread.run(lambda: is_free.wait(10))
    patience_s = thread._patience_s
    thread._patience_s = 5.0  # a busy machine starts no thread in less
    is_free.set()

    assert await thread.run(lambda: is_free.wait(10))

    assert (patience_s, thread._patience_s) == (0.08, 0.01)
    await thread.close()


async def test_an_error_of_the_work_is_raised_and_costs_nothing_later(
    thread: DatabaseThread,
) -> None:
    def fail() -> None:
        raise DataError("value too long")

    with pytest.raises(DataError, match="too long"):
        await thread.run(fail)

    assert (await thread.run(ask_one))[0] == 1


async def test_a_connection_that_died_while_idle_is_replaced_at_once(
    thread: DatabaseThread,
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("a connection to SQLite is not kept")

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

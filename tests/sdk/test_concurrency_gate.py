from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.limiter import ConcurrencyGate
from tidegate.policy import ConcurrencyPolicy, Mode, QueuePolicy

FOREVER_S = 3600.0


def gate(most: int, *, queue: int = 0, timeout_ms: float = 60_000) -> ConcurrencyGate:
    return ConcurrencyGate(limits(most, queue=queue, timeout_ms=timeout_ms))


def limits(
    most: int, *, queue: int = 0, timeout_ms: float = 60_000, mode: Mode = Mode.ENFORCE
) -> ConcurrencyPolicy:
    return ConcurrencyPolicy(most, QueuePolicy(queue, timeout_ms), mode)


async def waiter(door: ConcurrencyGate) -> asyncio.Task[str]:
    task = asyncio.create_task(door.wait(FOREVER_S))
    await asyncio.sleep(0)
    return task


async def test_places_are_given_first_come_first_served() -> None:
    door = gate(1, queue=2)
    assert door.enter_now()
    first, second = await waiter(door), await waiter(door)

    door.leave()

    assert await first == ""
    assert not second.done()
    door.leave()
    assert await second == ""


async def test_a_newcomer_does_not_overtake_the_queue() -> None:
    door = gate(1, queue=1)
    door.enter_now()
    queued = await waiter(door)

    door.leave()

    assert not door.enter_now()
    assert await queued == ""


async def test_a_full_queue_and_no_queue_refuse_at_once() -> None:
    queueless, short = gate(1), gate(1, queue=1)
    queueless.enter_now()
    short.enter_now()
    queued = await waiter(short)

    assert await queueless.wait(FOREVER_S) == "concurrency"
    assert await short.wait(FOREVER_S) == "queue_full"
    queued.cancel()


async def test_nobody_waits_longer_than_the_queue_allows_or_the_deadline() -> None:
    door = gate(1, queue=5, timeout_ms=1)
    door.enter_now()

    assert await door.wait(FOREVER_S) == "queue_timeout"
    assert await door.wait(0.0) == "deadline"
    assert door.waiting == 0


async def test_a_waiter_that_is_cancelled_leaves_the_queue() -> None:
    door = gate(1, queue=1)
    door.enter_now()
    queued = await waiter(door)

    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued

    assert (door.inside, door.waiting) == (1, 0)


async def test_a_place_given_to_a_waiter_cancelled_in_the_same_turn_is_not_lost() -> None:
    door = gate(1, queue=2)
    door.enter_now()
    cancelled, patient = await waiter(door), await waiter(door)

    door.leave()
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)

    assert await patient == ""
    assert door.inside == 1


async def test_raising_the_limit_lets_waiters_in_at_once() -> None:
    door = gate(1, queue=2)
    door.enter_now()
    queued = [await waiter(door), await waiter(door)]

    door.retune(limits(3, queue=2))

    assert await asyncio.gather(*queued) == ["", ""]
    assert door.inside == 3


async def test_lowering_the_limit_keeps_those_inside_and_admits_nobody_until_they_left() -> None:
    door = gate(3)
    for _ in range(3):
        door.enter_now()

    door.retune(limits(1))
    door.leave()

    assert door.inside == 2
    assert not door.enter_now()


async def test_shadow_lets_everybody_in_and_says_whom_it_would_have_refused() -> None:
    door = ConcurrencyGate(limits(1, queue=1, mode=Mode.SHADOW))

    reasons = [door.enter_anyway() for _ in range(4)]

    assert reasons == ["", "", "queue_full", "queue_full"]
    assert door.inside == 4


async def test_going_to_shadow_frees_the_queue() -> None:
    door = gate(1, queue=1)
    door.enter_now()
    queued = await waiter(door)

    door.retune(limits(1, queue=1, mode=Mode.SHADOW))

    assert await queued == ""


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=60))
def test_there_are_never_more_inside_than_the_limit(most: int, steps: list[bool]) -> None:
    door = gate(most)

    for enters in steps:
        if enters:
            door.enter_now()
        elif door.inside:
            door.leave()
        assert 0 <= door.inside <= most

"""What a storm is judged by: nothing that went wrong may be missing from it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.scenarios.connections import Connections
from tests.survival.instances import Instance, Way
from tests.survival.storm import Outcome, Published
from tests.waiting import not_hung


def instance(url: str = "http://nowhere", way: Way = Way.LONG_POLL) -> Instance:
    return Instance("one", "service-1", "token", [url], way, random.Random(1))


def outcome(*held: tuple[float, int, int], newest: int) -> Outcome:
    following = instance()
    following.seen.held.extend(held)
    published = [Published("service-1", 3001, at=10.0), Published("service-1", 3002, at=11.0)]
    return Outcome([following], [], published, {"service-1": (8, newest)})


def test_a_last_publication_that_was_missed_is_counted_and_no_error_of_the_report() -> None:
    found = outcome((1.0, 6, 3000), (10.5, 7, 3001), newest=3002).report()

    assert found["unreached"] == 1
    assert found["propagation_s"]["max"] == 0.5


def test_an_instance_that_held_nothing_at_all_missed_everything() -> None:
    found = outcome(newest=3002).report()

    assert found["unreached"] == 2
    assert found["propagation_s"] == {}


def test_a_publication_that_was_skipped_for_a_later_one_was_passed() -> None:
    found = outcome((1.0, 6, 3000), (11.5, 8, 3002), newest=3002).report()

    assert found["unreached"] == 0
    assert found["propagation_s"]["max"] == 1.5


@pytest.mark.parametrize(("newest", "found"), [(3002, {}), (3001, {"service-1": (3002, 3001)})])
def test_what_was_acknowledged_last_has_to_be_in_force(
    newest: int, found: dict[str, tuple[int, int]]
) -> None:
    assert outcome((1.0, 6, 3000), newest=newest).not_in_force() == found


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[str]:
    """A node on a free port that answers everything with this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)

    connections = Connections(serve)
    listening = await asyncio.start_server(connections.accept, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    await connections.close()


async def follow(way: Way, answer: bytes) -> Instance:
    """Let an instance follow until it has two answers, and stop it then."""
    async with server(answer) as url, not_hung():
        following = instance(url, way)
        task = asyncio.create_task(following.run())
        while sum(following.seen.statuses.values()) < 2:  # noqa: ASYNC110  (it tells nobody)
            await asyncio.sleep(0.005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return following


@pytest.mark.parametrize("way", list(Way))
async def test_an_instance_that_is_unanswered_at_the_end_stands_alone_until_then(way: Way) -> None:
    following = await follow(way, b"HTTP/1.1 503 Not Now\r\ncontent-length: 0\r\n\r\n")

    assert len(following.seen.gaps) == 1
    assert following.seen.gaps[0][1] > 0.0


async def test_an_instance_between_two_polls_does_not_stand_alone() -> None:
    following = await follow(Way.SHORT_POLL, b"HTTP/1.1 304 Not Modified\r\n\r\n")

    assert following.seen.statuses == {304: 2}
    assert len(following.seen.gaps) == 2, "one for each poll, until its answer, and no other"

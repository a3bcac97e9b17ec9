"""What every test of the delivery plane has: bounds that no slow machine reaches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from controlplane.delivery.hotpath import wakeups
from controlplane.delivery.services import database_thread, feed, remembering
from controlplane.delivery.services.database_thread import DatabaseThread
from tests.waiting import HUNG_S


@pytest.fixture(autouse=True)
def no_bound_is_reached_by_being_slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only what hangs is given up; a test that is about giving up sets a bound of its own.

    Threads that work on the database end with their test.
    """
    bounds = {"patience_s": HUNG_S, "at_most_s": HUNG_S}
    monkeypatch.setattr(DatabaseThread.__init__, "__kwdefaults__", bounds)
    monkeypatch.setattr(database_thread, "CLOSED_WITHIN_S", HUNG_S)
    monkeypatch.setattr(remembering, "WAIT_AT_MOST_S", HUNG_S)
    monkeypatch.setattr(remembering, "CLOSED_WITHIN_S", HUNG_S)
    monkeypatch.setattr(feed, "START_WITHIN_S", HUNG_S)
    monkeypatch.setattr(feed, "STOP_WITHIN_S", HUNG_S)
    monkeypatch.setattr(wakeups, "SLICE_S", HUNG_S)
    yield
    workers = [each for each in threading.enumerate() if isinstance(each, database_thread._Worker)]
    for worker in workers:
        worker.jobs.put(Future())
    for worker in workers:
        worker.join(HUNG_S)


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What a thread that hangs waits for; the end of the test lets it go."""
    event = threading.Event()
    yield event
    event.set()

"""Callers who ask the same question at the same time share one answer."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class SingleFlight(Generic[Answer]):
    """Runs at most one call per key at a time; who comes later waits for its outcome."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._flights: dict[Hashable, Future[Answer]] = {}
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many callers wait for the answer of another."""
        return self._waiting

    def do(self, key: Hashable, ask: Callable[[], Answer]) -> Answer:
        """Return `ask()`, or what an equal call in flight returns or raises."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                mine = self._flights[key] = Future()
            else:
                self._waiting += 1
        if flight is not None:
            return self._wait_for(flight)
        try:
            mine.set_result(ask())
        except BaseException as error:
            mine.set_exception(error)
        finally:
            with self._lock:
                del self._flights[key]
        return mine.result()

    def _wait_for(self, flight: Future[Answer]) -> Answer:
        try:
            return flight.result()
        finally:
            with self._lock:
                self._waiting -= 1

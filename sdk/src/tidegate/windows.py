"""Sliding windows that count outcomes in constant time per call and survive being resized.

An outcome is a small integer, its kind. A time window forgets by age in slices of a twentieth
of its size; a count window forgets the oldest of its calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

SLICES = 20


class Window(Protocol):
    """What breakers need of a window; `totals[kind]` is how many calls of a kind it holds."""

    totals: list[int]

    def add(self, kind: int, now_s: float) -> None:
        """Count one call of this kind."""
        ...

    def expire(self, now_s: float) -> None:
        """Forget what is too old."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...

    def history(self) -> list[tuple[float, list[int]]]:
        """What it holds, oldest first: when, and how many calls of each kind."""
        ...


class TimeWindow:
    """Counts of the last `size_s` seconds."""

    def __init__(self, size_s: float, kinds: int, now_s: float) -> None:
        self.size_s = size_s
        self._kinds = kinds
        self._slice_s = size_s / SLICES
        self._slices = [[0] * kinds for _ in range(SLICES)]
        self._newest = self._slice_number(now_s)
        self._next_slice_s = (self._newest + 1) * self._slice_s
        self.totals = [0] * kinds

    def add(self, kind: int, now_s: float) -> None:
        """Count one call of this kind."""
        if now_s >= self._next_slice_s:
            self.expire(now_s)
        self._slices[self._newest % SLICES][kind] += 1
        self.totals[kind] += 1

    def expire(self, now_s: float) -> None:
        """Forget the slices that are older than the window; at most all of them, so O(1)."""
        if now_s < self._next_slice_s:
            return
        newest = self._slice_number(now_s)
        for number in range(self._newest + 1, min(newest, self._newest + SLICES) + 1):
            old = self._slices[number % SLICES]
            for kind, count in enumerate(old):
                self.totals[kind] -= count
            self._slices[number % SLICES] = [0] * self._kinds
        self._newest = newest
        self._next_slice_s = (newest + 1) * self._slice_s

    def clear(self) -> None:
        """Forget everything."""
        self._slices = [[0] * self._kinds for _ in range(SLICES)]
        self.totals = [0] * self._kinds

    def history(self) -> list[tuple[float, list[int]]]:
        """What it holds, oldest first: the start of each slice, and its counts."""
        numbers = range(self._newest - SLICES + 1, self._newest + 1)
        slices = ((number * self._slice_s, self._slices[number % SLICES]) for number in numbers)
        return [(start_s, list(counts)) for start_s, counts in slices if any(counts)]

    def resized(self, size_s: float, now_s: float) -> TimeWindow:
        """A window of another size that keeps of this one what is young enough."""
        return time_window_of(self.history(), size_s, self._kinds, now_s)

    def _slice_number(self, now_s: float) -> int:
        return int(now_s // self._slice_s)

    def _add_many(self, counts: list[int], at_s: float) -> None:
        number = min(self._slice_number(at_s), self._newest)
        if number <= self._newest - SLICES:
            return
        for kind, count in enumerate(counts):
            self._slices[number % SLICES][kind] += count
            self.totals[kind] += count


class CountWindow:
    """Counts of the last `size` calls."""

    def __init__(self, size: int, kinds: int) -> None:
        self.size = size
        self._calls: deque[tuple[float, int]] = deque()
        self.totals = [0] * kinds

    def add(self, kind: int, now_s: float) -> None:
        """Count one call of this kind, in place of the oldest when full."""
        self._calls.append((now_s, kind))
        self.totals[kind] += 1
        if len(self._calls) > self.size:
            self.totals[self._calls.popleft()[1]] -= 1

    def expire(self, now_s: float) -> None:
        """Nothing: calls leave this window by number, never by age."""

    def clear(self) -> None:
        """Forget everything."""
        self._calls.clear()
        self.totals = [0] * len(self.totals)

    def history(self) -> list[tuple[float, list[int]]]:
        """What it holds, oldest first, one entry per call."""
        return [
            (at_s, [int(kind == each) for each in range(len(self.totals))])
            for at_s, kind in self._calls
        ]


def time_window_of(
    history: Iterable[tuple[float, list[int]]], size_s: float, kinds: int, now_s: float
) -> TimeWindow:
    """A time window holding what of `history` is younger than `size_s`."""
    window = TimeWindow(size_s, kinds, now_s)
    for at_s, counts in history:
        window._add_many(counts, at_s)  # noqa: SLF001  (this module's own class)
    return window


def count_window_of(history: list[tuple[float, list[int]]], size: int, kinds: int) -> CountWindow:
    """A count window holding the newest `size` calls of `history`.

    A slice that fits only in part is thinned evenly, so its failure rate survives.
    """
    window = CountWindow(size, kinds)
    room = size
    kept: list[tuple[float, list[int]]] = []
    for at_s, counts in reversed(history):
        total = sum(counts)
        kept.append((at_s, counts if total <= room else _thinned(counts, room)))
        room -= total
        if room <= 0:
            break
    for at_s, counts in reversed(kept):
        for kind, count in enumerate(counts):
            for _ in range(count):
                window.add(kind, at_s)
    return window


def _thinned(counts: list[int], room: int) -> list[int]:
    """At most `room` calls in the proportions of `counts`, remainders to the largest."""
    total = sum(counts)
    shares = [count * room // total for count in counts]
    by_remainder = sorted(
        range(len(counts)), key=lambda kind: counts[kind] * room % total, reverse=True
    )
    for kind in by_remainder[: room - sum(shares)]:
        shares[kind] += 1
    return shares

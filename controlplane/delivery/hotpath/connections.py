"""All connections of one process: how many, for how long, and what ended those that failed."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol, cast

import structlog

from controlplane.delivery.hotpath.plane import DeliveryPlane
from controlplane.delivery.hotpath.polls import Poll
from controlplane.delivery.hotpath.problems import Answer, Refusal, come_back

SWEEP_SLICE = 1_000
DATE_EVERY_S = 0.1
TICKS_A_SECOND = 10
LOG_EVERY_S = 30
SLICE_S = 0.004
SLICE_WHILE_WAKING_S = 0.001
"""How long put-off requests are worked on in one turn of the event loop."""
SLICE_OF_TURNS_S = 0.000_5
"""The same for those of clients that send several at once."""
IDLE_AT_ONCE = 1_000
MAX_KNOWN = 20_000
MAX_KNOWN_BYTES = 1_024

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost, in bytes and seconds, and how many there may be."""

    connections: int = 12_000
    unproven: int = 2_000
    behind: int = 1_000
    head_bytes: int = 32 * 1024
    head_s: int = 10
    body_s: int = 20
    idle_s: int = 75
    unsent_bytes: int = 256 * 1024
    unsent_s: int = 20


class Connection(Protocol):
    """What the whole asks of each of its connections."""

    @property
    def idle_since(self) -> int | None:
        """The tick of its last answer; None while anything is going on."""

    def sweep(self) -> None:
        """End it if it has taken too long over something."""

    def evict(self) -> None:
        """End it to make room."""

    def shutdown(self) -> None:
        """Close as soon as nothing is owed to the client."""


class Behind(Connection, Protocol):
    """One that was handed over to the other plane."""

    @property
    def stage(self) -> int:
        """0 between requests, 1 while one arrives, 2 while it waits for its answer."""


class Postponed(Protocol):
    """A connection whose turn comes later."""

    def go_on(self) -> None:
        """Work through what has arrived."""


class Wire:
    """The connections of one process and what they share.

    `tick` counts seconds; connections measure their ages in it. A connection is unproven until it
    has shown a valid token: of those the oldest makes room for the newest, so that connections
    which only stand open keep nobody out. When all places are taken, so does the one that has been
    idle for longest. Those that were handed over have places of their own, since anybody may ask
    for a page.
    """

    def __init__(
        self,
        plane: DeliveryPlane,
        *,
        limits: Limits = Limits(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.plane = plane
        self.unchanged: Callable[[Poll], Answer | None] = plane.config.unchanged
        self.limits = limits
        self.tick = 0
        self.date_line = b""
        self.is_leaving = False
        self.successor: Callable[[], asyncio.Protocol]
        self.all: set[object] = set()
        self.end_counts: dict[str, int] = {}
        self.known: dict[bytes, Poll] = {}
        self._clock = clock
        self._unproven: dict[Connection, None] = {}
        self._behind: dict[Behind, None] = {}
        self._swept: set[Connection] = set()
        self._quiet: dict[str, int] = {}
        self._logged_at: dict[str, int] = {}
        self._postponed: deque[Postponed] = deque()
        self._taking_turns: deque[Postponed] = deque()
        self._is_working = False
        self._idle: deque[tuple[int, Connection]] = deque()
        self._searched_at = -1
        self._beats = 0
        self._timer: asyncio.TimerHandle | None = None
        self._renew_date()

    def start(self, connections: set[object], successor: Callable[[], asyncio.Protocol]) -> None:
        """Begin to keep time. `connections` is the server's own set, of both planes.

        `successor` makes the protocol that takes over what is not for the delivery plane.
        """
        self.all = connections
        self.successor = successor
        self._timer = asyncio.get_running_loop().call_later(DATE_EVERY_S, self._beat)

    def stop(self) -> None:
        """Keep time no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def leave(self) -> None:
        """End every connection with its next answer."""
        self.is_leaving = True
        self.unchanged = lambda poll: None  # the short way says nothing about the connection

    def admit(self, connection: Connection) -> Refusal | None:
        """Take a new connection; return the refusal when there are too many."""
        self._swept.add(connection)
        self.all.add(connection)
        if len(self.all) > self.limits.connections and not self._make_room(connection):
            self.note_end("too many connections")
            return come_back(
                503, "too-many-connections", "no more connections here", after_s=1, spread_s=9
            )
        self.mark_unproven(connection)
        return None

    def postpone(self, connection: Postponed) -> bool:
        """Say whether the next request of a client that was just woken has to wait.

        All those whom a publication woke ask again at once. To read their new requests costs more
        than to answer those who still wait, so these go first; the requests have their turn, some
        of them each time round. Nobody else's requests wait.
        """
        if not self._postponed and not self.plane.config.is_waking:
            return False
        self._postponed.append(connection)
        self._work()
        return True

    def take_turns(self, connection: Postponed) -> None:
        """Let a client that has sent several requests at once wait for its next turn.

        Answered in one go they would make everybody else wait: 250 KB hold thousands of them.
        """
        self._taking_turns.append(connection)
        self._work()

    def trust(self, connection: Connection) -> None:
        """Note that a connection has shown a valid token."""
        self._unproven.pop(connection, None)

    def mark_unproven(self, connection: Connection) -> None:
        """Note that a connection has shown no valid token yet, or none any more."""
        self._unproven[connection] = None
        if len(self._unproven) > self.limits.unproven:
            _evict_first(self._unproven)

    def learn(self, raw: bytes, poll: Poll) -> None:
        """Recognise the bytes of a valid short poll from now on, on whatever connection they come.

        Behind a proxy that shares its connections an instance's polls come on all of them. The
        oldest is forgotten when there are too many.
        """
        if poll.may_be_quick and len(raw) <= MAX_KNOWN_BYTES:
            if len(self.known) >= MAX_KNOWN and raw not in self.known:
                del self.known[next(iter(self.known))]
            self.known[raw] = poll

    def watch(self, connection: Behind) -> None:
        """Keep an eye on a connection of the other plane, too, whose request begins just now.

        Of those at the earliest stage, the one whose last request began first makes room for it:
        not who is quiet, since that is also who waits for a page.
        """
        self._swept.add(connection)
        self._behind.pop(connection, None)
        self._behind[connection] = None
        if len(self._behind) > self.limits.behind:
            others = (each for each in self._behind if each is not connection)
            first = min(others, key=lambda each: each.stage)
            del self._behind[first]
            first.evict()

    def forget(self, connection: Connection) -> None:
        """Note that a connection is gone, or another protocol's."""
        self._swept.discard(connection)
        self.all.discard(connection)
        self._unproven.pop(connection, None)
        self._behind.pop(cast(Behind, connection), None)

    def note_end(self, reason: str, detail: str = "") -> None:
        """Count a connection that ended badly, and log it: each kind once in a while.

        Whoever sends garbage would otherwise fill the disk with it.
        """
        self.end_counts[reason] = self.end_counts.get(reason, 0) + 1
        since = self._logged_at.get(reason)
        if since is not None and self.tick - since < LOG_EVERY_S:
            self._quiet[reason] = self._quiet.get(reason, 0) + 1
            return
        self._logged_at[reason] = self.tick
        more = self._quiet.pop(reason, 0)
        logger.warning("connection.ended", reason=reason, detail=detail[:100], unlogged_before=more)

    def sweep(self) -> None:
        """Let every connection look at its age, a slice of them each turn of the loop."""
        self._sweep_slices(list(self._swept))

    def _work(self) -> None:
        if not self._is_working:
            self._is_working = True
            asyncio.get_running_loop().call_soon(self._work_some)

    def _work_some(self) -> None:
        waiting, slice_s = self._taking_turns, SLICE_OF_TURNS_S
        if self._postponed:
            waiting = self._postponed
            slice_s = SLICE_WHILE_WAKING_S if self.plane.config.is_waking else SLICE_S
        until_s = time.perf_counter() + slice_s
        while waiting and time.perf_counter() < until_s:
            _without_harm(waiting.popleft().go_on)
        self._is_working = False
        if self._postponed or self._taking_turns:
            self._work()

    def _make_room(self, newest: Connection) -> bool:
        """End the connection that has been idle for longest; False when none is."""
        while True:
            while self._idle:
                since, connection = self._idle.popleft()
                if connection in self._swept and connection.idle_since == since:
                    self.forget(connection)
                    connection.evict()
                    return True
            # A search reads all of them: strangers must not buy one with each connection.
            if self._searched_at == self._beats:
                return False
            self._searched_at = self._beats
            idle = ((each.idle_since, each) for each in self._swept if each is not newest)
            self._idle.extend(
                heapq.nsmallest(
                    IDLE_AT_ONCE,
                    ((since, each) for since, each in idle if since is not None),
                    key=lambda found: found[0],
                )
            )
            if not self._idle:
                return False

    def _sweep_slices(self, rest: list[Connection]) -> None:
        for connection in rest[-SWEEP_SLICE:]:
            if connection in self._swept:  # others have ended since
                _without_harm(connection.sweep)
        del rest[-SWEEP_SLICE:]
        if rest:
            asyncio.get_running_loop().call_soon(self._sweep_slices, rest)

    def _beat(self) -> None:
        self._renew_date()
        self._beats += 1
        if self._beats % TICKS_A_SECOND == 0:
            self.tick += 1
            self.sweep()
        self._timer = asyncio.get_running_loop().call_later(DATE_EVERY_S, self._beat)

    def _renew_date(self) -> None:
        self.date_line = b"date: " + formatdate(self._clock(), usegmt=True).encode() + b"\r\n\r\n"


def _without_harm(step: Callable[[], None]) -> None:
    # One connection's defect must not leave those behind it unanswered, or unswept.
    try:
        step()
    except Exception:
        logger.exception("connection.failed")


def _evict_first(connections: dict[Connection, None]) -> None:
    # Out of the set at once: it hears of its end later, when many more may have come.
    first = next(iter(connections))
    del connections[first]
    first.evict()

"""Simulated instances: each follows its service's policy, and writes down what it sees."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.survival.wire import Broken, Connection, Reply

ANSWER_WITHIN_S = 1.5  # beyond what it asked to wait; then it goes to the other node
TRY_AGAIN_S = 0.05
HEARTBEAT_S = 15.0


class Way(Enum):
    """How an instance follows its policy."""

    LONG_POLL = "long-poll"
    SHORT_POLL = "short polls"
    STREAM = "stream"


@dataclass(slots=True)
class Seen:
    """What one instance went through; times are those of its event loop."""

    held: list[tuple[float, int, int]] = field(default_factory=list)  # (when, sequence, number)
    lower: list[tuple[float, int, int]] = field(default_factory=list)  # (when, sent, held)
    gaps: list[tuple[float, float]] = field(default_factory=list)  # (when, seconds)
    stale: int = 0  # answers that said their age
    statuses: dict[int, int] = field(default_factory=dict)
    broken: int = 0


class Instance:
    """One instance. It knows all nodes, and goes to the next when one does not answer.

    A gap is how long it stood without an answer: from the moment that a node failed it, or that
    the wait it asked for was over, until any node answered.
    """

    def __init__(
        self,
        name: str,
        service: str,
        token: str,
        urls: Sequence[str],
        way: Way,
        dice: random.Random,
    ) -> None:
        self.name = name
        self.service = service
        self.way = way
        self.seen = Seen()
        self._path = f"/config/v1/prod/{service}"
        self._token = token
        self._urls = urls
        self._node = dice.randrange(len(urls))
        self._dice = dice
        self._connection: Connection | None = None
        self._etag: str | None = None
        self._due = math.inf  # by when an answer should be here
        self._alone_since: float | None = None

    @property
    def sequence(self) -> int:
        """The sequence of the publication it holds; 0 before the first."""
        return self.seen.held[-1][1] if self.seen.held else 0

    @property
    def number(self) -> int:
        """The number of the publication it holds."""
        return self.seen.held[-1][2] if self.seen.held else 0

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                try:
                    await self._follow()
                except Broken:
                    self._lose()
                    await asyncio.sleep(TRY_AGAIN_S)
        finally:
            self._count_gap()  # one that is still unanswered stands alone as well
            if self._connection is not None:
                self._connection.close()

    async def _follow(self) -> None:
        if self._connection is None:
            self._connection = await Connection.open(self._urls[self._node])
        if self.way is Way.STREAM:
            await self._stream(self._connection)
        elif self.way is Way.LONG_POLL:
            await self._poll(self._connection, wait_s=0 if self._alone_since else 3)
        else:
            await self._poll(self._connection, wait_s=0)
            await asyncio.sleep(self._dice.uniform(0.2, 0.4))

    async def _poll(self, connection: Connection, wait_s: int) -> None:
        headers = self._headers()
        if self._etag is not None:
            headers["If-None-Match"] = self._etag
        if wait_s:
            headers["Prefer"] = f"wait={wait_s}"
        self._due = _now() + wait_s
        reply = await connection.ask(self._path, headers, within_s=wait_s + ANSWER_WITHIN_S)
        if reply.status not in (200, 304):
            self._count(reply)
            raise Broken(f"status {reply.status}")
        self._answered(reply)
        if reply.status == 200:
            self._apply(json.loads(reply.body), reply.headers["etag"])

    async def _stream(self, connection: Connection) -> None:
        headers = self._headers() | {"Accept": "text/event-stream"}
        if self.sequence:
            headers["Last-Event-ID"] = str(self.sequence)
        self._due = _now()
        reply = await connection.ask(self._path, headers, within_s=ANSWER_WITHIN_S, is_stream=True)
        if reply.status != 200:
            self._count(reply)
            raise Broken(f"status {reply.status}")
        self._answered(reply)
        self._due = _now() + HEARTBEAT_S
        async for event in connection.events(reply, silent_s=HEARTBEAT_S + ANSWER_WITHIN_S):
            self._due = _now() + HEARTBEAT_S
            if event.get("event") == "config":
                body = json.loads(event["data"])
                self._apply(body, f'"{body["etag"]}"')
            elif event.get("event") == "reconnect":
                raise Broken("asked to reconnect")

    def _headers(self) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._token}", "Tidegate-Instance": self.name}
        if self._etag is not None:
            headers["Tidegate-Applied"] = self._etag
        return headers

    def _apply(self, body: dict[str, Any], etag: str) -> None:
        sequence = body["sequence"]
        if sequence < self.sequence:
            # As the protocol has it: a client that meets a lower one keeps what it has.
            self.seen.lower.append((_now(), sequence, self.sequence))
            return
        if sequence > self.sequence:
            number = body["policy"]["inbound"]["deadline_ms"]
            self.seen.held.append((_now(), sequence, number))
        self._etag = etag

    def _answered(self, reply: Reply) -> None:
        self._count(reply)
        if "warning" in reply.headers:
            self.seen.stale += 1
        self._count_gap()
        self._alone_since, self._due = None, math.inf

    def _count_gap(self) -> None:
        alone_since = self._due if self._alone_since is None else self._alone_since
        if _now() > alone_since:
            self.seen.gaps.append((_now(), _now() - alone_since))

    def _count(self, reply: Reply) -> None:
        self.seen.statuses[reply.status] = self.seen.statuses.get(reply.status, 0) + 1

    def _lose(self) -> None:
        """Go to the next node."""
        self.seen.broken += 1
        if self._alone_since is None:
            self._alone_since = min(_now(), self._due)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._node = (self._node + 1) % len(self._urls)


def _now() -> float:
    return asyncio.get_running_loop().time()

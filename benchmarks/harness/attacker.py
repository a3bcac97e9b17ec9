"""Run in a process of its own: opens connections that do what no honest client does, and keeps on.

Commands on standard input, one JSON object a line: {"do": "start", "kind", "port", "token"} begins
one kind of attack and answers once it has opened as many connections as it is named for, {"do":
"stop"} ends it and says how many connections it opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
from collections.abc import Callable
from typing import Any

import uvloop

from benchmarks.harness.machine import raise_files_limit
from benchmarks.harness.names import config_path

HALF_OPEN = 10_000
SLOW = 2_000
UNREAD_STREAMS = 200
GIANT_BYTES = 1_000_000
PIPELINING = 20
PIPELINED = b"GET /livez HTTP/1.1\r\n\r\n" * 1_000
PER_ROUND = 100
ROUND_S = 0.05


class Attack:
    """One kind of attack on one port."""

    def __init__(self, kind: str, port: int, token: str) -> None:
        self.kind = kind
        self.port = port
        self.token = token
        self.opened = 0
        self.is_under_way = asyncio.Event()
        self.open: set[asyncio.Transport] = set()

    async def connect(self) -> asyncio.Transport | None:
        """Open one connection that reads and ignores; None when it was not let in."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            transport, _ = await loop.create_connection(
                lambda: _Ignoring(self.open), "127.0.0.1", self.port
            )
            self.opened += 1
            if self.opened >= ENOUGH[self.kind]:
                self.is_under_way.set()
            return transport
        return None

    async def half_open(self) -> None:
        """Ten thousand connections that never say anything, opened again when they are closed."""
        while True:
            for _ in range(min(PER_ROUND, HALF_OPEN - len(self.open))):
                await self.connect()
            await asyncio.sleep(ROUND_S)

    async def slowloris(self) -> None:
        """Heads that never end: one more byte of each per second."""
        while True:
            for _ in range(min(PER_ROUND, SLOW - len(self.open))):
                transport = await self.connect()
                if transport is not None:
                    transport.write(b"GET /config/v1/prod/x HTTP/1.1\r\nX-Slow: ")
            for transport in random.sample(sorted(self.open, key=id), len(self.open) // 20):
                transport.write(b"x")
            await asyncio.sleep(ROUND_S)

    async def giant_heads(self) -> None:
        """Heads of a megabyte."""
        while True:
            for _ in range(5):
                transport = await self.connect()
                if transport is not None:
                    transport.write(b"GET / HTTP/1.1\r\nX-Giant: " + b"x" * GIANT_BYTES)
            await asyncio.sleep(ROUND_S)

    async def garbage(self) -> None:
        """Bytes that are no HTTP, and bodies that never come."""
        while True:
            for number in range(20):
                transport = await self.connect()
                if transport is not None:
                    transport.write(
                        random.randbytes(200) if number % 2
                        else b"POST /ofrep/v1/evaluate/flags HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
                    )  # fmt: skip
            await asyncio.sleep(ROUND_S)

    async def unread_streams(self) -> None:
        """Streams with a valid token, of which nothing is ever read."""
        request = (
            f"GET {config_path(0)} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {self.token}\r\n\r\n"
        ).encode()
        while True:
            for _ in range(min(PER_ROUND, UNREAD_STREAMS - len(self.open))):
                transport = await self.connect()
                if transport is not None:
                    transport.write(request)
                    transport.pause_reading()
            await asyncio.sleep(ROUND_S)

    async def pipelining(self) -> None:
        """A thousand requests at once on each of some connections, twice a second."""
        while True:
            for _ in range(PIPELINING - len(self.open)):
                await self.connect()
            for transport in list(self.open):
                if not transport.get_write_buffer_size():
                    transport.write(PIPELINED)
            await asyncio.sleep(0.5)


ENOUGH = {
    "half_open": HALF_OPEN,
    "slowloris": SLOW,
    "giant_heads": 50,
    "garbage": 200,
    "unread_streams": UNREAD_STREAMS,
    "pipelining": PIPELINING,
}
KINDS: tuple[str, ...] = tuple(ENOUGH)


class _Ignoring(asyncio.Protocol):
    def __init__(self, connections: set[asyncio.Transport]) -> None:
        self._open = connections
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._open.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self._transport)


async def main() -> None:
    """Do what standard input says until it ends."""
    loop = asyncio.get_running_loop()
    attack: Attack | None = None
    task: asyncio.Task[None] | None = None
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        if command["do"] == "start":
            attack = Attack(command["kind"], command["port"], command["token"])
            work: Callable[[], Any] = getattr(attack, command["kind"])
            task = asyncio.create_task(work())
            await attack.is_under_way.wait()
            answer = {}
        else:
            assert attack is not None
            assert task is not None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            answer = {"opened": attack.opened, "open": len(attack.open)}
            for transport in list(attack.open):
                transport.abort()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    raise_files_limit()
    # It shares a core with those whose latency is measured, and is not to cause it there.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())

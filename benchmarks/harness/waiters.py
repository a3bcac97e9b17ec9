"""Parked instances: a process with thousands of connections that notes when each was answered.

One JSON object per line in, one out; see `Waiters`. Times are of the monotonic clock, which all
processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial
from typing import Any

import uvloop

from benchmarks.harness.load import answer_size
from benchmarks.harness.machine import raise_files_limit

AT_ONCE = 200  # connections being made
PACE_S = 0.002  # between two batches of requests that are sent again


class Waiters:
    """Every connection of this process, and how far the present round is."""

    def __init__(self) -> None:
        self.connections: list[Waiting] = []
        self.marker = b""
        self.end = b""
        self.answered_ns: list[int] = []
        self.is_prompt = False
        self.lost = 0
        self.wrong = ""
        self.is_paced = False
        self.unchanged = 0
        self.heartbeats = 0
        self.all_answered = asyncio.Event()
        self.etag = ""

    async def connect(
        self, port: int, requests: list[str], etag: str, end: str, is_prompt: bool
    ) -> dict[str, Any]:
        """Park one connection per request; `{etag}` in them stands for the last one known.

        `end` is what ends an event of a stream; empty for whole answers. Prompt ones ask again the
        moment they are answered, as an instance that acknowledges does.
        """
        self.etag, self.end, self.is_prompt = etag, end.encode(), is_prompt
        loop = asyncio.get_running_loop()
        kind: type[Waiting] = Stream if end else LongPoll
        for start in range(0, len(requests), AT_ONCE):
            made = await asyncio.gather(
                *(
                    loop.create_connection(partial(kind, self, text), "127.0.0.1", port)
                    for text in requests[start : start + AT_ONCE]
                )
            )
            self.connections += [protocol for _, protocol in made]
        return {"connections": len(self.connections)}

    async def arm(self, marker: str) -> dict[str, Any]:
        """Begin a round: what counts from now on is an answer that holds `marker`."""
        self.marker = marker.encode()
        self.answered_ns = []
        self.all_answered.clear()
        return {}

    async def result(self, within_s: float) -> dict[str, Any]:
        """Wait until every connection was answered; return when each was."""
        try:
            async with asyncio.timeout(within_s):
                await self.all_answered.wait()
        except TimeoutError:
            pass  # how many are missing, and what came instead, is in the answer
        return {"answered_ns": self.answered_ns, "lost": self.lost, "wrong": self.wrong}

    async def again(self) -> dict[str, Any]:
        """Have every long-poll that was answered wait again, at a pace that hurts nobody."""
        for start in range(0, len(self.connections), AT_ONCE):
            for connection in self.connections[start : start + AT_ONCE]:
                connection.ask_again()
            await asyncio.sleep(PACE_S)
        return {}

    async def pause(self) -> dict[str, Any]:
        """From now on ask again only when told to."""
        self.is_paced = True
        return {}

    async def quiet(self, seconds: float, interval_s: float) -> dict[str, Any]:
        """Let time pass while nothing changes; return what came meanwhile.

        With an interval, whole answers are asked for at that pace by each connection, all evenly
        spread; without one they are asked for again as soon as they are given.
        """
        self.unchanged = self.heartbeats = 0
        if interval_s:
            await self._pace(seconds, interval_s)
        else:
            await asyncio.sleep(seconds)
        return {"unchanged": self.unchanged, "heartbeats": self.heartbeats, "wrong": self.wrong}

    async def _pace(self, seconds: float, interval_s: float) -> None:
        started, asked = time.monotonic(), 0
        per_s = len(self.connections) / interval_s
        while (passed_s := time.monotonic() - started) < seconds:
            while asked < passed_s * per_s:
                self.connections[asked % len(self.connections)].ask_again()
                asked += 1
            await asyncio.sleep(0.005)

    def note(self) -> None:
        """One more connection has the new policy."""
        self.answered_ns.append(time.monotonic_ns())
        if len(self.answered_ns) == len(self.connections):
            self.all_answered.set()

    def note_wrong(self, answer: bytes) -> None:
        """Remember the first answer that is none of those expected; the round ends with it."""
        self.wrong = self.wrong or repr(answer[:300])
        self.all_answered.set()


class Waiting(asyncio.Protocol):
    """One connection."""

    def __init__(self, waiters: Waiters, text: str) -> None:
        self.waiters = waiters
        self.text = text
        self.data = b""
        self.is_waiting = False
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """Ask for the first time."""
        self.transport = transport
        self.ask_again()

    def ask_again(self) -> None:
        """Ask, unless an answer is still awaited."""
        if not self.is_waiting:
            self.is_waiting = True
            self.transport.write(self.text.replace("{etag}", self.waiters.etag).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that the server closes counts as lost."""
        self.waiters.lost += 1


class LongPoll(Waiting):
    """Gets whole answers; one that is not what the round is about is asked for again."""

    def data_received(self, data: bytes) -> None:
        """Note an answer once it is complete."""
        self.data += data
        size = answer_size(self.data)
        if size is None or len(self.data) < size:
            return
        answer, self.data = self.data, b""
        self.is_waiting = False
        waiters = self.waiters
        if waiters.marker and waiters.marker in answer:
            waiters.note()
            if len(waiters.answered_ns) == 1:
                waiters.etag = _etag(answer)
            if waiters.is_prompt:
                self.ask_again()
        elif answer.startswith(b"HTTP/1.1 304"):
            waiters.unchanged += 1
            if not waiters.is_paced:
                self.ask_again()
        elif not answer.startswith(b"HTTP/1.1 200"):
            waiters.note_wrong(answer)


class Stream(Waiting):
    """Gets events; each is noted once its end is there."""

    def data_received(self, data: bytes) -> None:
        """Note an event once it is complete."""
        data = self.data + data
        waiters = self.waiters
        at = data.find(waiters.marker) if waiters.marker else -1
        if at >= 0 and data.find(waiters.end, at) >= 0:
            waiters.note()
            self.data = b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
            waiters.note_wrong(data)
        else:
            waiters.heartbeats += data.startswith(b":")
            self.data = data[-8192:] if waiters.marker else b""


def _etag(answer: bytes) -> str:
    for line in answer.split(b"\r\n\r\n", 1)[0].split(b"\r\n"):
        if line.lower().startswith(b"etag:"):
            return line[5:].strip().decode()
    return ""


async def serve() -> None:
    """Do what each line says until there is none."""
    reader = asyncio.StreamReader(limit=2**26)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    waiters = Waiters()
    while line := await reader.readline():
        request = json.loads(line)
        answer = await getattr(waiters, request.pop("do"))(**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    raise_files_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())

"""Load on one server: wrk where it is installed, else a client of our own; and an open loop.

A run is void unless every answer has the status and size of the answer to a probe.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.harness.machine import CLIENT_CORE, cpu_s, pin, quantile
from benchmarks.harness.processes import Server
from benchmarks.harness.rivals import find_program

CONNECTIONS = 64
SENDERS = 16  # instances that share them, each with a token and a limit of its own
_WRK_SCRIPT = """
local requests, number = {}, 0
function init(args)
  local file = io.open(os.getenv("TIDEGATE_BENCH_REQUESTS"), "rb")
  local text = file:read("*a")
  file:close()
  for request in text:gmatch("([^%z]+)%z") do requests[#requests + 1] = request end
end
function request()
  number = number % #requests + 1
  return requests[number]
end
function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests":%d,"us":%d,"bytes":%d,"bad":%d,"p50_us":%d,"p99_us":%d,"max_us":%d}\\n',
    summary.requests, summary.duration, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run against one server."""

    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    server_cpu_us: float


Latencies = tuple[float, float, float]
"""p50, p99 and maximum, in ms."""


class WrongAnswer(SystemExit):
    """A server answered something else than it was measured for."""


def probe(port: int, request: bytes) -> bytes:
    """Send one request on a connection of its own; return the whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        data = b""
        while (size := answer_size(data)) is None or len(data) < size:
            more = connection.recv(65_536)
            if not more:
                break
            data += more
        return data


def answer_size(data: bytes) -> int | None:
    """Return how long the answer that starts here is in all; None while its head is incomplete."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head = data[:head_end].lower()
    if b" 304 " in head[:16]:
        return head_end + 4
    if b"\r\ntransfer-encoding: chunked" in head:
        return len(data) if data.endswith(b"\r\n0\r\n\r\n") else None
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise WrongAnswer(f"an answer without a length: {data[:200]!r}")
    return head_end + 4 + int(head[at + 17 :].split(b"\r\n", 1)[0])


def check(port: int, requests: Sequence[bytes], status: int) -> int:
    """Return the size of the answer to the first request, which must have this status."""
    answer = probe(port, requests[0])
    if not answer.startswith(b"HTTP/1.1 %d " % status):
        raise WrongAnswer(f"expected {status}, but the answer is {answer[:300]!r}")
    return len(answer)


def closed_loop(
    server: Server,
    requests: Sequence[bytes],
    *,
    status: int,
    seconds: int,
    senders: int = SENDERS,
) -> Run:
    """Keep CONNECTIONS requests under way, each followed by the next as soon as it is answered.

    Requests of so many senders go out in turn, on whatever connection is free.
    """
    size = check(server.port, requests, status)
    before = cpu_s(server.pid)
    requests = _spread(requests, senders)
    if find_program("wrk"):
        count, took_s, total, latencies = _wrk(server.port, requests, seconds)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            client = runner.run(_closed(server.port, requests, seconds))
        count, took_s, total = len(client.took_s), float(seconds), client.total_bytes
        latencies = _latencies(client)
    used_s = cpu_s(server.pid) - before
    # Sizes differ by the length of a name or a number; another kind of answer differs by more.
    if not count or abs(total / count - size) > 32:
        raise WrongAnswer(f"{count} answers of {total} bytes; expected {size} bytes each")
    return Run(count / took_s, *latencies, used_s / count * 1e6)


def _spread(requests: Sequence[bytes], senders: int = SENDERS) -> list[bytes]:
    """Return so many of these requests, from all over the table."""
    return [requests[number * len(requests) // senders] for number in range(senders)]


def _wrk(port: int, requests: Sequence[bytes], seconds: int) -> tuple[int, float, int, Latencies]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-wrk-") as folder:
        script, file = Path(folder, "load.lua"), Path(folder, "requests")
        script.write_text(_WRK_SCRIPT)
        file.write_bytes(b"".join(request + b"\0" for request in requests))
        done = subprocess.run(
            [
                str(find_program("wrk")), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s",
                "--latency", "-s", str(script), f"http://127.0.0.1:{port}",
            ],
            env={"TIDEGATE_BENCH_REQUESTS": str(file)},
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: pin(CLIENT_CORE),
        )  # fmt: skip
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["bad"]:
        raise WrongAnswer(f"wrk counts {found['bad']} errors:\n{done.stdout}")
    latencies = (found["p50_us"] / 1e3, found["p99_us"] / 1e3, found["max_us"] / 1e3)
    return found["requests"], found["us"] / 1e6, found["bytes"], latencies


class _Client(asyncio.Protocol):
    """Connections that share a queue of idle ones, and what each answer took."""

    def __init__(self) -> None:
        self.took_s: list[float] = []
        self.total_bytes = 0


class _Connection(asyncio.Protocol):
    def __init__(self, client: _Client, on_idle: Any, number: int) -> None:
        self.client, self.on_idle, self.number = client, on_idle, number
        self.data = b""
        self.since_s = 0.0
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.on_idle(self)

    def ask(self, request: bytes, since_s: float) -> None:
        self.since_s = since_s
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        size = answer_size(self.data)
        if size is None or len(self.data) < size:
            return
        self.client.total_bytes += len(self.data)
        self.client.took_s.append(time.perf_counter() - self.since_s)
        self.data = b""
        self.on_idle(self)


async def _closed(port: int, requests: Sequence[bytes], seconds: int) -> _Client:
    client, is_over = _Client(), False

    def again(connection: _Connection) -> None:
        if not is_over:
            connection.number += 1
            connection.ask(requests[connection.number % len(requests)], time.perf_counter())

    transports = await _connect(port, client, again)
    await asyncio.sleep(seconds)
    is_over = True
    for transport in transports:
        transport.close()
    return client


def open_loop(
    server: Server, requests: Sequence[bytes], *, status: int, seconds: float, per_s: int
) -> Run:
    """Offer the same rate whatever the server does; latency counts from when a poll was due.

    A `status` of 0 takes any answer: what is asked for changes during the run.
    """
    if status:
        check(server.port, requests, status)
    before = cpu_s(server.pid)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        client = runner.run(_open(server, _spread(requests), seconds, per_s))
    used_s = cpu_s(server.pid) - before
    count = len(client.took_s)
    return Run(count / seconds, *_latencies(client), used_s / count * 1e6)


def paced_loop(
    server: Server, requests: Sequence[bytes], *, status: int, seconds: float, per_s: int
) -> Run:
    """Offer the same rate on one connection, from a client with no event loop of its own.

    Latency counts from when a poll was due. Beside others that use the client's core this is the
    only one whose own delays are small: it sleeps, is woken by the answer, and does nothing else.
    """
    size = check(server.port, requests, status)
    requests = _spread(requests)
    before = cpu_s(server.pid)
    client = _Client()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began_s = time.perf_counter()
        for number in range(int(seconds * per_s)):
            due_s = began_s + number / per_s
            time.sleep(max(0.0, due_s - time.perf_counter()))
            connection.sendall(requests[number % len(requests)])
            left = size - 32
            while left > 0:
                left -= len(connection.recv(65_536)) or left
            client.took_s.append(time.perf_counter() - due_s)
    used_s = cpu_s(server.pid) - before
    count = len(client.took_s)
    return Run(count / seconds, *_latencies(client), used_s / count * 1e6)


def _latencies(client: _Client) -> Latencies:
    took = client.took_s
    return quantile(took, 0.5) * 1e3, quantile(took, 0.99) * 1e3, max(took) * 1e3


async def _open(server: Server, requests: Sequence[bytes], seconds: float, per_s: int) -> _Client:
    client = _Client()
    idle: deque[_Connection] = deque()
    late: deque[float] = deque()

    def take(connection: _Connection) -> None:
        if late:
            connection.ask(requests[connection.number % len(requests)], late.popleft())
        else:
            idle.append(connection)

    transports = await _connect(server.port, client, take)
    started, number, total = time.perf_counter(), 0, int(seconds * per_s)
    while number < total:
        now = time.perf_counter()
        while number < total and (due_at := started + number / per_s) <= now:
            number += 1
            late.append(due_at)
            if idle:
                take(idle.popleft())
        await asyncio.sleep(0.0005)
    deadline = time.perf_counter() + 5
    while len(client.took_s) < total:
        if time.perf_counter() > deadline:
            raise WrongAnswer(
                f"{server.name}: {total - len(client.took_s)} of {total} polls got no answer"
            )
        await asyncio.sleep(0.005)
    for transport in transports:
        transport.close()
    return client


async def _connect(port: int, client: _Client, on_idle: Any) -> list[asyncio.BaseTransport]:
    loop = asyncio.get_running_loop()
    return [
        (
            await loop.create_connection(
                partial(_Connection, client, on_idle, number), "127.0.0.1", port
            )
        )[0]
        for number in range(CONNECTIONS)
    ]

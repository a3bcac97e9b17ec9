"""A delivery node as a real process: how it leaves, and what hostile clients can do to it."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.scenarios.node import Node, running_node
from tests.scenarios.stack import wait_until

pytestmark = pytest.mark.scenario

STOP_WITHIN_S = 6


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process open 16,384 files."""
    wanted, before = 16_384, resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[0] < wanted:
        hard = max(before[1], wanted)  # root may raise it
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except ValueError:
            pytest.fail(f"the attack takes {wanted} open files: raise the hard limit (ulimit -Hn)")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0], max(before[1], wanted)))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with running_node(tmp_path, "--stop-within-s", str(STOP_WITHIN_S)) as running:
        yield running


def held(node: Node) -> int:
    for line in httpx.get(f"{node.url}/metrics", timeout=5).text.splitlines():
        if line.startswith("tidegate_delivery_parked_connections "):
            return int(float(line.split()[1]))
    return 0


async def ask(node: Node, **headers: str) -> bytes:
    """Send one request and return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    request = [f"GET {node.config_path} HTTP/1.1", "Host: x", f"Authorization: Bearer {node.token}"]
    writer.write("\r\n".join([*request, *lines, "", ""]).encode())
    said = await reader.read()
    writer.close()
    return said


def test_a_node_that_is_told_to_stop_lets_everybody_go_and_ends_in_time(node: Node) -> None:
    etag = httpx.get(
        f"{node.url}{node.config_path}", headers={"Authorization": f"Bearer {node.token}"}
    ).headers["etag"]

    async def story() -> tuple[list[bytes], list[bytes], int]:
        polls = [
            asyncio.ensure_future(ask(node, If_None_Match=etag, Prefer="wait=60"))
            for _ in range(40)
        ]
        streams = [asyncio.ensure_future(ask(node, Accept="text/event-stream")) for _ in range(40)]
        while await asyncio.to_thread(held, node) < 80:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        # A client that stays on its connection is told that the node leaves, for as long as
        # it answers at all (uvicorn's next tick, a tenth of a second); then that it has left.
        watching = socket.create_connection(("127.0.0.1", node.port))
        watching.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert watching.recv(65536).startswith(b"HTTP/1.1 200 ")
        node.process.send_signal(signal.SIGTERM)
        seen = 200
        with suppress(ConnectionError):
            while seen == 200:
                watching.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                said = watching.recv(65536)
                seen = int(said.split(b" ")[1]) if said else 0
        status = 0 if seen == 200 else seen
        watching.close()
        async with asyncio.timeout(STOP_WITHIN_S):
            return await asyncio.gather(*polls), await asyncio.gather(*streams), status

    started_s = time.monotonic()
    polled, streamed, status = asyncio.run(story())
    code = node.process.wait(STOP_WITHIN_S)

    assert code == 0
    assert time.monotonic() - started_s < 30
    assert status in (503, 0)
    assert {answer.split(b"\r\n")[0] for answer in polled} == {b"HTTP/1.1 304 Not Modified"}
    assert all(b"connection: close" in answer for answer in polled)
    hints = [json.loads(each.rsplit(b"data: ", 1)[1]) for each in streamed]
    assert {hint["reason"] for hint in hints} == {"draining"}
    assert len({hint["after_ms"] for hint in hints}) > 20


def test_a_publication_reaches_a_node_without_valkey(node: Node) -> None:
    headers = {"Authorization": f"Bearer {node.token}"}

    def version() -> int:
        return int(httpx.get(f"{node.url}{node.config_path}", headers=headers).json()["version"])

    before = version()
    node.publish()

    wait_until(lambda: version() == before + 1, within_s=10, what="the second version")


class Attack:
    """Connections of one kind, kept open until the end of the attack."""

    def __init__(self, node: Node) -> None:
        self._address = ("127.0.0.1", node.port)
        self.open: list[socket.socket] = []

    def connect(self) -> socket.socket:
        sock = socket.create_connection(self._address, timeout=5)
        self.open.append(sock)
        return sock

    def send(self, data: bytes) -> None:
        with suppress(OSError):  # the node may have ended the connection already
            self.connect().sendall(data)

    def go_on(self, number: int) -> None:
        """Open one more connection, each of another kind than the one before."""
        kind = number % 6
        if kind == 0:
            self.connect()
        elif kind == 1:
            self.send(b"GET /config/v1/prod/checkout HTTP/1.1\r\nX-Slow: ")  # slowloris
        elif kind == 2:
            self.send(b"\x16\x03\x01\x05\xa8\x01\x00" + bytes(range(256)))  # TLS, or garbage
        elif kind == 3 and number % 60 == 3:
            self.send(b"GET / HTTP/1.1\r\nX-Giant: " + b"x" * 200_000)
        elif kind == 4:
            self.send(b"POST /config/v1/prod/checkout HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        else:
            self.send(b"GET /config/v1/prod/checkout HTTP/1.1\r\nHost: x\r\n\r\n")

    def close(self) -> None:
        for sock in self.open:
            sock.close()


@pytest.mark.usefixtures("many_files")
def test_hostile_connections_are_bounded_and_others_are_served_all_the_while(node: Node) -> None:
    headers = {"Authorization": f"Bearer {node.token}", "Tidegate-Instance": "honest-1"}
    statuses: Counter[int] = Counter()
    with ExitStack() as stack:
        attack = Attack(node)
        stack.callback(attack.close)
        honest = stack.enter_context(httpx.Client(base_url=node.url, headers=headers, timeout=5))
        etag = honest.get(node.config_path).headers["etag"]

        def stay_served() -> None:
            answer = honest.get(node.config_path, headers={"If-None-Match": etag})
            statuses[answer.status_code] += 1
            newcomer = httpx.get(f"{node.url}{node.config_path}", headers=headers, timeout=5)
            statuses[newcomer.status_code] += 1

        for number in range(10_000):
            attack.connect()  # half open: never says anything
            if number % 1_000 == 0:
                stay_served()
        for number in range(3_000):
            attack.go_on(number)
            if number % 100 == 0:
                stay_served()
        stay_served()
        metrics = httpx.get(f"{node.url}/metrics", timeout=5).text

    ended = {
        line.split('"')[1]: float(line.split()[-1])
        for line in metrics.splitlines()
        if line.startswith("tidegate_delivery_connections_ended_total{")
    }
    assert statuses == {304: 41, 200: 41}
    assert ended["evicted"] >= 8_000
    assert ended["malformed"] >= 500
    assert ended["head too large"] >= 50
    # Whatever 13,000 connections did, it fills no log.
    about_connections = [line for line in node.events() if "connection.ended" in line]
    assert len(about_connections) <= 2 * len(ended)
    assert node.process.poll() is None

"""What hostile clients can do to a real node, and how soon it is gone when it is told to stop."""

from __future__ import annotations

import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.scenarios.leaving import leave
from tests.scenarios.node import Node, Seed, running_node
from tests.soak.figures import Figures

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

STOP_WITHIN_S = 6.0


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
def node(node_seed: Seed, tmp_path: Path) -> Iterator[Node]:
    with running_node(node_seed, tmp_path, "--stop-within-s", f"{STOP_WITHIN_S:.0f}") as running:
        yield running


def test_a_node_that_is_told_to_stop_ends_in_time(node: Node, figures: Figures) -> None:
    started_s = time.monotonic()
    leave(node)
    node.process.wait(60)

    took_s = time.monotonic() - started_s
    figures.check(
        "a node with 80 held clients, from their coming to its end", took_s, "s", at_most=30.0
    )


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
def test_hostile_connections_are_bounded_and_others_are_served_all_the_while(
    node: Node, figures: Figures
) -> None:
    headers = {"Authorization": f"Bearer {node.token}", "Tidegate-Instance": "honest-1"}
    statuses: Counter[int] = Counter()
    slowest_s = 0.0
    with ExitStack() as stack:
        attack = Attack(node)
        stack.callback(attack.close)
        honest = stack.enter_context(httpx.Client(base_url=node.url, headers=headers, timeout=5))
        etag = honest.get(node.config_path).headers["etag"]

        def stay_served() -> None:
            nonlocal slowest_s
            began_s = time.monotonic()
            answer = honest.get(node.config_path, headers={"If-None-Match": etag})
            statuses[answer.status_code] += 1
            newcomer = httpx.get(f"{node.url}{node.config_path}", headers=headers, timeout=5)
            statuses[newcomer.status_code] += 1
            slowest_s = max(slowest_s, time.monotonic() - began_s)

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
    figures.note(
        "slowest honest poll and newcomer beside 13,000 hostile connections", slowest_s, "s"
    )
    assert statuses == {304: 41, 200: 41}
    assert ended["evicted"] >= 8_000
    assert ended["malformed"] >= 500
    assert ended["head too large"] >= 50
    # Whatever 13,000 connections did, it fills no log.
    about_connections = [line for line in node.events() if "connection.ended" in line]
    assert len(about_connections) <= 2 * len(ended)
    assert node.process.poll() is None

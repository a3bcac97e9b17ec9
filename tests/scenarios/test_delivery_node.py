"""A delivery node as a real process: how it leaves, and that it needs no Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.scenarios.leaving import leave
from tests.scenarios.node import Node, Seed, running_node
from tests.waiting import HUNG_S, wait_until

pytestmark = pytest.mark.scenario


@pytest.fixture
def node(node_seed: Seed, tmp_path: Path) -> Iterator[Node]:
    with running_node(node_seed, tmp_path, "--stop-within-s", f"{HUNG_S:.0f}") as running:
        yield running


def test_a_node_that_is_told_to_stop_lets_everybody_go_and_ends(node: Node) -> None:
    left = leave(node)
    code = node.process.wait(HUNG_S)

    assert code == 0
    assert left.last_status in (503, 0)
    assert {answer.split(b"\r\n")[0] for answer in left.polled} == {b"HTTP/1.1 304 Not Modified"}
    assert all(b"connection: close" in answer for answer in left.polled)
    assert {hint["reason"] for hint in left.hints} == {"draining"}
    assert len({hint["after_ms"] for hint in left.hints}) > 20


def test_a_publication_reaches_a_node_without_valkey(node: Node) -> None:
    headers = {"Authorization": f"Bearer {node.token}"}

    def version() -> int:
        answer = httpx.get(f"{node.url}{node.config_path}", headers=headers, timeout=HUNG_S)
        return int(answer.json()["version"])

    before = version()
    node.publish()

    wait_until(lambda: version() == before + 1, what="the second version")

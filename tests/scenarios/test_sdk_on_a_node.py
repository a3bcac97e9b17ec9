"""The SDK on a real delivery node: by stream, behind proxies that break streams, and at its end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.scenarios.connections import Connections
from tests.scenarios.node import Node, Seed, running_node
from tests.waiting import HUNG_S, eventually, wait_until
from tidegate import PolicyClient, SyncPolicyClient

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def node(node_seed: Seed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(node_seed, tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def mortal_node(node_seed: Seed, tmp_path: Path) -> Iterator[Node]:
    with running_node(node_seed, tmp_path) as node:
        yield node


def pinned_key(node: Node) -> str:
    (key,) = httpx.get(f"{node.url}/config/v1/keys").json()["keys"]
    return str(key["kid"])


def held_at(node: Node) -> float:
    """How many polls and streams the node holds."""
    for line in httpx.get(f"{node.url}/metrics").text.splitlines():
        if line.startswith("tidegate_delivery_parked_connections "):
            return float(line.split()[1])
    raise AssertionError("the node does not say how many connections it holds")


def test_in_a_thread_by_stream_with_a_pinned_key_until_the_node_leaves(
    mortal_node: Node, tmp_path: Path
) -> None:
    node = mortal_node
    kid = pinned_key(node)

    def make_client() -> SyncPolicyClient:
        return SyncPolicyClient(
            node.url, "prod", "checkout", node.token, state_dir=tmp_path / "sdk", pinned_keys=[kid]
        )

    with make_client() as client:
        first = client.sequence
        assert first is not None
        wait_until(lambda: held_at(node) == 1, what="the node to hold the stream")
        node.publish()
        wait_until(lambda: client.sequence == first + 1, what="the policy to come by stream")
        assert (client.transport, client.signature_failures, client.rejected) == ("stream", 0, None)

        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(HUNG_S) == 0
        assert client.sequence == first + 1
        assert client.is_running

    # The node is gone: policy, signature and the key itself come from the disk.
    with make_client() as restarted:
        assert restarted.sequence == first + 1


class Proxy:
    """Passes bytes on, except those of streams, which it keeps, or cuts after the first."""

    def __init__(self, port: int, breaks: str) -> None:
        self._port = port
        self._breaks = breaks

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        is_stream = asyncio.Event()

        async def pass_requests() -> None:
            while chunk := await reader.read(65536):
                if b"text/event-stream" in chunk:
                    is_stream.set()
                upstream_writer.write(chunk)

        async def pass_answers() -> None:
            while chunk := await upstream_reader.read(65536):
                if is_stream.is_set() and self._breaks == "keeps":
                    continue
                writer.write(chunk)
                if is_stream.is_set() and self._breaks == "cuts":
                    await writer.drain()
                    return

        both = [asyncio.create_task(pass_requests()), asyncio.create_task(pass_answers())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            writer.close()
            upstream_writer.close()


@asynccontextmanager
async def proxy_before(node: Node, breaks: str) -> AsyncIterator[str]:
    connections = Connections(Proxy(node.port, breaks).serve)
    server = await asyncio.start_server(connections.accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await connections.close()


@asynccontextmanager
async def following(url: str, token: str) -> AsyncIterator[PolicyClient]:
    client = PolicyClient(url, "prod", "checkout", token)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@pytest.mark.parametrize("breaks", ["keeps", "cuts"])
async def test_behind_a_proxy_that_breaks_streams_policies_come_all_the_same(
    node: Node, breaks: str
) -> None:
    async with proxy_before(node, breaks) as url, following(url, node.token) as client:
        first = client.sequence
        assert first is not None

        await asyncio.to_thread(node.publish)
        await eventually(lambda: client.sequence == first + 1, what="the policy to come")

        assert client.rejected is None
        if breaks == "keeps":
            await eventually(lambda: client.transport == "long_poll", what="the stream to be left")

"""HTTP over real sockets: what clients that do not read what they are sent can do."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.delivery.hotpath.connections import Limits, Wire
from controlplane.delivery.hotpath.wire import WireConnection
from tests.delivery.builders import make_plane, snapshot
from tests.delivery.wire_server import LARGE, POLL, Served, serving
from tests.waiting import eventually, not_hung


async def test_a_stream_whose_client_reads_nothing_is_cut_off_and_others_are_not() -> None:
    async with serving(snapshot(7, policy=LARGE), limits=Limits(unsent_bytes=64 * 1024)) as served:
        reader, writer = await served.connect()
        writer.write((POLL + "Accept: text/event-stream\r\n\r\n").encode())
        await reader.readuntil(b"data: ")
        sock = await served.connect_slowly()
        sock.send((POLL + "Accept: text/event-stream\r\n\r\n").encode())
        await eventually(lambda: served.plane.config.held_count >= 2)

        for sequence in range(8, 3_000):
            served.plane.store.swap(snapshot(sequence, policy=LARGE))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            async with not_hung():
                await reader.readuntil(b"data: ")
            if served.plane.config.held_count < 2:
                break

        assert served.wire.end_counts == {"slow reader": 1}
        assert served.plane.config.held_count == 1


class Narrow:
    """A transport to a client that takes nothing."""

    def __init__(self) -> None:
        self.unsent = b""
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        self.unsent += data

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def abort(self) -> None:
        self.is_aborted = True


async def test_a_policy_larger_than_what_may_be_unsent_is_sent_and_one_more_is_not() -> None:
    plane, narrow = make_plane(snapshot(7, policy=LARGE)), Narrow()
    connection = WireConnection(Wire(plane.delivery, limits=Limits(unsent_bytes=1_024)))
    connection.connection_made(narrow)  # type: ignore[arg-type]
    connection.data_received((POLL + "Accept: text/event-stream\r\n\r\n").encode())
    assert narrow.get_write_buffer_size() > 1_024
    assert (narrow.is_aborted, plane.config.held_count) == (False, 1)

    plane.store.swap(snapshot(8, policy=LARGE))
    await eventually(lambda: narrow.is_aborted)

    assert narrow.unsent.count(b"event: config") == 1
    assert plane.config.held_count == 0


async def test_a_client_that_pipelines_and_reads_nothing_is_read_from_no_further() -> None:
    async with serving(snapshot(7, policy=LARGE), limits=Limits(unsent_s=5)) as served:
        sock = await served.connect_slowly()
        loop = asyncio.get_running_loop()
        request = (POLL + "\r\n").encode()
        stuck = asyncio.ensure_future(loop.sock_sendall(sock, request * 200_000))
        try:
            await eventually(lambda: served.wire.all and is_stuck(served))

            assert served.plane.delivery.answer_counts[200] < 2_000
            assert unsent_bytes(served) < 128 * 1024
            served.pass_s(6)
            with pytest.raises(ConnectionError):
                async with not_hung():
                    await stuck
            assert served.wire.end_counts == {"slow reader": 1}
        finally:
            stuck.cancel()
            await asyncio.wait([stuck])


async def test_a_client_that_pipelines_and_reads_late_gets_every_answer() -> None:
    async with serving(snapshot(7, policy=LARGE)) as served:
        sock = await served.connect_slowly()
        loop = asyncio.get_running_loop()
        last = POLL + "Connection: close\r\n\r\n"
        async with not_hung():
            await loop.sock_sendall(sock, ((POLL + "\r\n") * 1_000 + last).encode())
        await eventually(lambda: served.wire.all and is_stuck(served))
        said = b""
        async with not_hung():
            while piece := await loop.sock_recv(sock, 1 << 20):
                said += piece

        assert said.count(b"HTTP/1.1 200 OK\r\n") == 1_001
        assert served.plane.delivery.answer_counts == {200: 1_001}


def unsent_bytes(served: Served) -> int:
    (connection,) = served.wire.all
    size: int = connection._transport.get_write_buffer_size()  # type: ignore[attr-defined]
    return size


def is_stuck(served: Served) -> bool:
    (connection,) = served.wire.all
    return bool(connection._is_stuck)  # type: ignore[attr-defined]

"""HTTP over real sockets: what clients of every kind get, the hostile ones too."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import brotli
import pytest
from structlog.testing import capture_logs

from controlplane.delivery.hotpath.connections import Limits, Wire
from controlplane.delivery.hotpath.problems import Answer
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.hotpath.wire import WireConnection
from tests.delivery.builders import CHECKOUT_TOKEN, Plane, make_plane, snapshot

LARGE: dict[str, Any] = {"inbound": {"endpoints": {f"GET /{number}": {} for number in range(200)}}}
AUTH = f"Authorization: Bearer {CHECKOUT_TOKEN}\r\n"
POLL = f"GET /config/v1/prod/checkout HTTP/1.1\r\nHost: x\r\n{AUTH}"
KNOWN = POLL + 'If-None-Match: "7-0-9f3c"\r\n\r\n'


class Echo:
    """An adapter that answers with the body it was sent."""

    max_body_bytes = 1_000

    def answer(self, request: Request) -> Answer:
        if request.path == "/echo/defect":
            raise RuntimeError("a defect")
        length = (b"content-length", str(len(request.body)).encode())
        return Answer(200, (length,), request.body)


class Behind(asyncio.Protocol):
    """What takes over connections that are not for the delivery plane."""

    taken: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.taken.append(data)
        self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")  # type: ignore[attr-defined]


class Served:
    """A listening server and its parts."""

    def __init__(self, plane: Plane, wire: Wire, port: int, taken: list[bytes]) -> None:
        self.plane = plane
        self.wire = wire
        self.port = port
        self.taken = taken

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def tell(self, text: str | bytes) -> bytes:
        """Send bytes on a new connection, close our side's interest, and return all that came."""
        reader, writer = await self.connect()
        writer.write(text.encode() if isinstance(text, str) else text)
        async with asyncio.timeout(5):
            said = await reader.read()
        writer.close()
        return said

    def pass_s(self, seconds: int) -> None:
        """Let this many seconds count for the connections, and sweep them."""
        self.wire.tick += seconds
        self.wire.sweep()


@asynccontextmanager
async def serving(
    *snapshots: Any, limits: Limits | None = None, **options: Any
) -> AsyncIterator[Served]:
    plane = make_plane(*snapshots, adapters=lambda gate, reports: {"/echo/": Echo()}, **options)
    wire = Wire(plane.delivery, limits=limits or Limits(), clock=plane.clock)
    taken: list[bytes] = []

    def behind() -> Behind:
        protocol = Behind()
        protocol.taken = taken
        return protocol

    wire.start(set(), behind)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: WireConnection(wire), "127.0.0.1", 0)
    try:
        yield Served(plane, wire, server.sockets[0].getsockname()[1], taken)
    finally:
        server.close()
        wire.stop()
        for connection in list(wire.all):
            connection.evict()  # type: ignore[attr-defined]
        await server.wait_closed()
        await asyncio.sleep(0)


async def until(is_so: Callable[[], object]) -> None:
    """Let the loop turn until something the other side does has happened."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  (the code under test has no event to wait for)
            await asyncio.sleep(0.001)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        status = int(head[0].split(" ")[1])
        has_body = status != 304 and "content-length" in headers
        body = await reader.readexactly(int(headers["content-length"])) if has_body else b""
    return status, headers, body


async def test_one_connection_serves_a_poll_and_then_the_same_bytes_again_and_again() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        answers = []
        for _ in range(3):
            writer.write(KNOWN.encode())
            answers.append(await read_answer(reader))
        writer.write((POLL + "\r\n").encode())
        answers.append(await read_answer(reader))
        writer.close()

        assert [status for status, _, _ in answers] == [304, 304, 304, 200]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][1]["date"] == "Mon, 02 Nov 2026 02:14:00 GMT"
        assert json.loads(answers[3][2])["sequence"] == 7
        assert served.plane.config.unchanged_count == 2


async def test_repeated_bytes_get_the_new_policy_once_there_is_one() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(KNOWN.encode())
        await read_answer(reader)

        served.plane.store.swap(snapshot(8))
        writer.write(KNOWN.encode())

        status, headers, _ = await read_answer(reader)
        writer.close()
        assert (status, headers["tidegate-sequence"]) == (200, "8")


async def test_repeated_bytes_of_a_revoked_token_are_refused() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(KNOWN.encode())
        await read_answer(reader)

        served.plane.tokens.replace([])
        writer.write(KNOWN.encode())

        assert (await read_answer(reader))[0] == 401
        writer.close()


async def test_a_body_comes_in_the_coding_the_client_takes_and_is_made_once() -> None:
    async with serving(snapshot(7, policy=LARGE)) as served:
        reader, writer = await served.connect()
        found = {}
        for coding in ("", "gzip", "br"):
            for _ in range(2):
                writer.write((POLL + f"Accept-Encoding: {coding}\r\n\r\n").encode())
                found[coding] = await read_answer(reader)
        writer.close()

        plain = found[""][2]
        assert "content-encoding" not in found[""][1]
        assert gzip.decompress(found["gzip"][2]) == plain
        assert brotli.decompress(found["br"][2]) == plain
        assert len(found["br"][2]) < len(plain) / 4
        slot = served.plane.store.find_slot("prod", "checkout")
        assert slot is not None
        assert slot.stable.full(b"br", None) is slot.stable.full(b"br", None)


async def test_a_held_poll_is_answered_by_a_swap_and_the_connection_goes_on() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        waiting = POLL + 'If-None-Match: "7-0-9f3c"\r\nPrefer: wait=30\r\n\r\n'
        writer.write(waiting.encode() + KNOWN.encode())
        await until(lambda: served.plane.config.held_count > 0)

        served.plane.store.swap(snapshot(8))
        first, second = await read_answer(reader), await read_answer(reader)
        writer.close()

        assert (first[0], first[1]["preference-applied"]) == (200, "wait=30")
        assert (second[0], second[1]["tidegate-sequence"]) == (200, "8")


async def test_a_client_that_leaves_while_it_waits_frees_its_place() -> None:
    async with serving() as served:
        _, writer = await served.connect()
        writer.write((POLL + 'If-None-Match: "7-0-9f3c"\r\nPrefer: wait=30\r\n\r\n').encode())
        await until(lambda: served.plane.config.held_count > 0)

        writer.close()
        await until(lambda: served.plane.config.held_count == 0)

        assert served.wire.all == set()


async def test_a_stream_goes_over_the_wire_event_by_event() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write((POLL + "Accept: text/event-stream\r\n\r\n").encode())
        status, headers, _ = await read_answer(reader)
        hint = await reader.readuntil(b"\n\n")
        first = await reader.readuntil(b"\n\n")
        served.plane.store.swap(snapshot(8))
        second = await reader.readuntil(b"\n\n")
        served.plane.config.drain()
        rest = await reader.read()
        writer.close()

        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert headers["connection"] == "close"
        assert hint.startswith(b"retry: ")
        assert first.startswith(b"event: config\nid: 7\n")
        assert second.startswith(b"event: config\nid: 8\n")
        assert b"event: reconnect" in rest


@pytest.mark.parametrize(
    "head",
    [
        "POST /echo/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        "POST /echo/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n0\r\n\r\n",
        "POST /echo/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 7, 10_000])
async def test_a_body_arrives_whole_however_it_is_cut(head: str, piece_bytes: int) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        data = head.encode()
        for start in range(0, len(data), piece_bytes):
            writer.write(data[start : start + piece_bytes])
            await writer.drain()
            await asyncio.sleep(0)

        assert (await read_answer(reader))[2] == b"hello"
        writer.write(KNOWN.encode())
        assert (await read_answer(reader))[0] == 304
        writer.close()


async def test_a_client_that_asks_whether_to_go_on_is_told_so() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(
            b"POST /echo/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"ok")

        assert (await read_answer(reader))[2] == b"ok"
        writer.close()


async def test_requests_for_other_pages_are_handed_over_with_every_byte() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(KNOWN.encode())
        await read_answer(reader)
        other = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\na=b&"
        writer.write(other)

        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
        assert b"".join(served.taken) == other
        writer.close()


async def test_a_head_request_has_no_body_and_http_1_0_ends_with_its_answer() -> None:
    async with serving() as served:
        head = await served.tell(
            f"HEAD /config/v1/prod/checkout HTTP/1.1\r\nConnection: close\r\n{AUTH}\r\n"
        )
        old = await served.tell(f"GET /config/v1/prod/checkout HTTP/1.0\r\n{AUTH}\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert b"connection: close" in old
    assert old.endswith(b"}")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /config/v1/prod/checkout HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /config/v1/prod/checkout HTTP/1.1\r\nA: b\x00c\r\n\r\n", 400),
        (b"GET /config/v1/prod/checkout HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (
            b"POST /echo/ HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\n",
            400,
        ),
        (b"POST /echo/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /echo/ HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
        (
            b"POST /echo/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001,
            413,
        ),
        (b"GET /config/v1/prod/checkout HTTP/1.1\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 40_000, 431),
        (b"A" * 40_000, 431),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_what_is_no_request_is_answered_once_and_the_connection_ends(
    sent: bytes, status: int
) -> None:
    async with serving() as served:
        said = await served.tell(sent)

        assert said.startswith(f"HTTP/1.1 {status} ".encode())
        assert said.count(b"HTTP/1.1 ") == 1
        assert json.loads(said.split(b"\r\n\r\n", 1)[1])["status"] == status
        assert served.wire.all == set()


async def test_a_defect_of_ours_is_said_and_the_connection_goes_on() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        with capture_logs() as lines:
            writer.write(b"GET /echo/defect HTTP/1.1\r\nHost: x\r\n\r\n")
            status, _, body = await read_answer(reader)
        writer.write(KNOWN.encode())

        assert (status, json.loads(body)["code"]) == (500, "internal-error")
        assert [line["event"] for line in lines] == ["request.failed"]
        assert (await read_answer(reader))[0] == 304
        writer.close()


async def test_garbage_is_logged_once_however_often_it_comes() -> None:
    async with serving() as served:
        with capture_logs() as lines:
            for _ in range(20):
                await served.tell(b"\x00\x01garbage\r\n\r\n")

        assert [line["event"] for line in lines] == ["connection.ended"]
        assert served.wire.end_counts == {"malformed": 20}


@pytest.mark.parametrize(
    ("sent", "after_s", "reason"),
    [
        (b"", 10, "idle"),
        (b"GET /config", 10, "slow head"),
        (b"POST /echo/ HTTP/1.1\r\nContent-Length: 9\r\n\r\nslow", 20, "slow body"),
        (KNOWN.encode(), 75, "idle"),
    ],
)
async def test_a_connection_that_takes_too_long_is_ended(
    sent: bytes, after_s: int, reason: str
) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(sent)
        await until(lambda: served.wire.all and (not sent or has_arrived(served)))

        served.pass_s(after_s)
        assert served.wire.end_counts == {}
        served.pass_s(1)
        async with asyncio.timeout(5):
            await reader.read()

        assert served.wire.end_counts == {reason: 1}
        writer.close()


async def test_a_head_that_trickles_in_gains_no_time_by_it() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        for letter in b"GET /config":
            writer.write(bytes([letter]))
            await writer.drain()
            await asyncio.sleep(0.001)
            served.pass_s(1)
        async with asyncio.timeout(5):
            said = await reader.read()

        assert said.startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_connections_that_show_no_token_make_room_for_the_newest() -> None:
    async with serving(limits=Limits(unproven=5)) as served:
        reader, writer = await served.connect()
        writer.write(KNOWN.encode())
        await read_answer(reader)  # this one has shown its token
        idle = [await served.connect() for _ in range(12)]
        await until(lambda: served.wire.end_counts.get("evicted", 0) >= 7)

        writer.write(KNOWN.encode())
        assert (await read_answer(reader))[0] == 304
        assert len(served.wire.all) == 6
        for _, each in [(reader, writer), *idle]:
            each.close()


async def test_one_connection_too_many_is_told_when_to_come_back() -> None:
    async with serving(limits=Limits(connections=2)) as served:
        kept = [await served.connect() for _ in range(2)]
        await until(lambda: len(served.wire.all) >= 2)

        said = await served.tell(b"")

        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: " in said
        for _, writer in kept:
            writer.close()


async def test_a_stream_whose_client_reads_nothing_is_cut_off_and_others_are_not() -> None:
    async with serving(snapshot(7, policy=LARGE), limits=Limits(unsent_bytes=64 * 1024)) as served:
        reader, writer = await served.connect()
        writer.write((POLL + "Accept: text/event-stream\r\n\r\n").encode())
        await reader.readuntil(b"data: ")
        sock = await connect_slowly(served.port)
        sock.send((POLL + "Accept: text/event-stream\r\n\r\n").encode())
        await until(lambda: served.plane.config.held_count >= 2)

        for sequence in range(8, 3_000):
            served.plane.store.swap(snapshot(sequence, policy=LARGE))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await reader.readuntil(b"data: ")
            if served.plane.config.held_count < 2:
                break

        assert served.wire.end_counts == {"slow reader": 1}
        assert served.plane.config.held_count == 1
        sock.close()
        writer.close()


async def test_a_client_that_pipelines_and_reads_nothing_is_read_from_no_further() -> None:
    async with serving(snapshot(7, policy=LARGE), limits=Limits(unsent_s=5)) as served:
        sock = await connect_slowly(served.port)
        loop = asyncio.get_running_loop()
        request = (POLL + "\r\n").encode()
        stuck = asyncio.ensure_future(loop.sock_sendall(sock, request * 200_000))
        before = -1
        while before != (now := served.plane.delivery.answer_counts.get(200, 0)):
            before = now
            await asyncio.sleep(0.05)

        assert before < 2_000
        served.pass_s(6)
        with pytest.raises(ConnectionError):
            await stuck
        assert served.wire.end_counts == {"slow reader": 1}
        sock.close()


async def test_leaving_ends_each_connection_with_its_next_answer() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(KNOWN.encode())
        await read_answer(reader)

        served.wire.leave()
        writer.write(KNOWN.encode())
        status, headers, _ = await read_answer(reader)

        assert (status, headers.get("connection")) == (304, "close")
        assert await reader.read() == b""
        writer.close()


async def test_while_a_publication_is_handed_out_new_requests_wait_their_turn_and_get_it() -> None:
    async with serving(max_parked=2_000) as served:
        waiting = (POLL + 'If-None-Match: "7-0-9f3c"\r\nPrefer: wait=30\r\n\r\n').encode()
        connections = [await served.connect() for _ in range(200)]
        for _, writer in connections:
            writer.write(waiting)
        await until(lambda: served.plane.config.held_count == 200)
        order = []

        async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            status, headers, _ = await read_answer(reader)
            order.append((status, headers["tidegate-sequence"]))
            writer.write(waiting.replace(b"7-0", b"8-0"))

        followers = [asyncio.ensure_future(follow(*each)) for each in connections]
        served.plane.store.swap(snapshot(8))
        reader, writer = await served.connect()
        writer.write((POLL + "\r\n").encode())
        newcomer = await read_answer(reader)
        await asyncio.gather(*followers)
        await until(lambda: served.plane.config.held_count == 200)

        assert newcomer[1]["tidegate-sequence"] == "8"
        assert set(order) == {(200, "8")}
        for _, each in [(reader, writer), *connections]:
            each.close()


def has_arrived(served: Served) -> bool:
    (connection,) = served.wire.all
    parts: Callable[[str], Any] = lambda name: getattr(connection, name)  # noqa: E731
    return bool(parts("_buffer") or parts("_incoming") or parts("_poll"))


async def connect_slowly(port: int) -> socket.socket:
    """Return a connection whose receive buffer is as small as can be."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock

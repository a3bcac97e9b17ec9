"""HTTP over real sockets: what clients of every kind get."""

from __future__ import annotations

import asyncio
import gzip
import json
from itertools import count

import brotli
import pytest
from structlog.testing import capture_logs

from controlplane.delivery.hotpath import wakeups
from controlplane.delivery.hotpath.wire import WireConnection
from tests.delivery.builders import snapshot
from tests.delivery.wire_server import (
    AUTH,
    KNOWN,
    LARGE,
    POLL,
    has_arrived,
    read_answer,
    serving,
)
from tests.waiting import eventually


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
        await eventually(lambda: served.plane.config.held_count > 0)

        served.plane.store.swap(snapshot(8))
        first, second = await read_answer(reader), await read_answer(reader)
        writer.close()

        assert (first[0], first[1]["preference-applied"]) == (200, "wait=30")
        assert (second[0], second[1]["tidegate-sequence"]) == (200, "8")


async def test_a_client_that_leaves_while_it_waits_frees_its_place() -> None:
    async with serving() as served:
        _, writer = await served.connect()
        writer.write((POLL + 'If-None-Match: "7-0-9f3c"\r\nPrefer: wait=30\r\n\r\n').encode())
        await eventually(lambda: served.plane.config.held_count > 0)

        writer.close()
        await eventually(lambda: served.plane.config.held_count == 0)

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
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 7, 10_000])
async def test_a_body_arrives_whole_however_it_is_cut(head: str, piece_bytes: int) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        data = f"POST /echo/ HTTP/1.1\r\nHost: x\r\n{AUTH}{head}".encode()
        for start in range(0, len(data), piece_bytes):
            writer.write(data[start : start + piece_bytes])
            await writer.drain()
            await asyncio.sleep(0)

        assert (await read_answer(reader))[2] == b"hello"
        writer.write(KNOWN.encode())
        assert (await read_answer(reader))[0] == 304
        writer.close()


async def test_what_a_stranger_sends_is_read_over_and_takes_no_memory() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(b"POST /echo/ HTTP/1.1\r\nContent-Length: 900\r\n\r\n" + b"x" * 800)
        await eventually(lambda: served.wire.all and has_arrived(served))
        (connection,) = served.wire.all
        await eventually(lambda: connection._incoming._fed_bytes == 800)  # type: ignore[attr-defined]
        kept = connection._incoming._body  # type: ignore[attr-defined]
        writer.write(b"x" * 100 + KNOWN.encode())

        assert kept == []
        assert (await read_answer(reader))[2] == b""  # an adapter answers 401 before it reads
        writer.close()


async def test_a_space_behind_a_value_is_no_part_of_it() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write((POLL + "Tidegate-Instance: checkout-1 \t\r\n\r\n").encode())

        assert (await read_answer(reader))[0] == 200
        assert [note.instance_id for note in served.plane.reports.take()] == ["checkout-1"]
        writer.close()


async def test_what_trails_a_body_is_no_header_of_its_request() -> None:
    async with serving() as served:
        said = await served.tell(
            b"GET /config/v1/prod/checkout HTTP/1.1\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + AUTH.encode() + b"\r\n"
        )

        assert said.startswith(b"HTTP/1.1 401 ")


async def test_a_client_that_asks_whether_to_go_on_is_told_so() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        head = f"POST /echo/ HTTP/1.1\r\n{AUTH}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        writer.write(head.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"ok")

        assert (await read_answer(reader))[2] == b"ok"
        writer.close()


async def test_an_old_client_is_never_told_to_go_on() -> None:
    async with serving() as served:
        said = await served.tell(
            b"GET /config/v1/prod/checkout HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"
        )

        assert said.startswith(b"HTTP/1.1 401 ")


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


async def test_while_a_publication_is_handed_out_new_requests_wait_their_turn_and_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So slow a machine that one row of those who wait is answered in each turn.
    monkeypatch.setattr(wakeups, "SLICE_S", 5)
    monkeypatch.setattr(wakeups, "perf_counter", count(step=3).__next__)
    async with serving(max_parked=2_000) as served:
        waiting = (POLL + 'If-None-Match: "7-0-9f3c"\r\nPrefer: wait=30\r\n\r\n').encode()
        connections = [await served.connect() for _ in range(200)]
        for _, writer in connections:
            writer.write(waiting)
        await eventually(lambda: served.plane.config.held_count == 200)
        order = []

        async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            status, headers, _ = await read_answer(reader)
            order.append((status, headers["tidegate-sequence"]))
            writer.write(waiting.replace(b"7-0", b"8-0"))

        postponed: list[object] = []
        go_on = WireConnection.go_on

        def noted(connection: WireConnection) -> None:
            postponed.append(connection)
            go_on(connection)

        monkeypatch.setattr(WireConnection, "go_on", noted)
        followers = [asyncio.ensure_future(follow(*each)) for each in connections]
        served.plane.store.swap(snapshot(8))
        reader, writer = await served.connect()
        writer.write((POLL + "\r\n").encode())
        newcomer = await read_answer(reader)
        await asyncio.gather(*followers)
        await eventually(lambda: served.plane.config.held_count == 200)

        assert newcomer[1]["tidegate-sequence"] == "8"
        assert set(order) == {(200, "8")}
        assert postponed
        for _, each in [(reader, writer), *connections]:
            each.close()

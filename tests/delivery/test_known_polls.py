"""Polls whose bytes are known are recognised on every connection, and are checked all the same."""

from __future__ import annotations

import pytest

from controlplane.delivery.hotpath import connections, wire
from controlplane.delivery.hotpath.heads import Incoming
from tests.delivery.builders import CHECKOUT_TOKEN
from tests.delivery.wire_server import (
    AUTH,
    KNOWN,
    POLL,
    Served,
    read_answer,
    serving,
)
from tests.waiting import eventually


async def ask(served: Served, *requests: str) -> list[tuple[int, dict[str, str], bytes]]:
    """Send requests one after the other on a new connection, and return their answers."""
    reader, writer = await served.connect()
    answers = []
    for request in requests:
        writer.write(request.encode())
        answers.append(await read_answer(reader))
    writer.close()
    return answers


async def test_what_one_connection_sent_is_not_parsed_again_on_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed: list[bytes] = []

    def counting(raw: bytes) -> Incoming:
        parsed.append(raw)
        return Incoming(raw)

    monkeypatch.setattr(wire, "Incoming", counting)
    other = KNOWN.replace("Host: x", "Host: y")
    async with serving() as served:
        await ask(served, KNOWN)
        answers = await ask(served, other, KNOWN, other)

    assert [status for status, _, _ in answers] == [304, 304, 304]
    # A connection has to show itself once.
    assert parsed == [KNOWN.encode(), other.encode()]


async def test_a_known_poll_of_a_revoked_token_is_refused_on_every_connection() -> None:
    async with serving() as served:
        await ask(served, KNOWN)
        reader, writer = await served.connect()
        writer.write(POLL.encode() + b"\r\n")
        await read_answer(reader)
        served.plane.tokens.replace([])
        writer.write(KNOWN.encode())
        status, _, _ = await read_answer(reader)
        writer.close()

    assert status == 401


async def test_a_body_that_reads_like_a_known_poll_is_a_body() -> None:
    async with serving() as served:
        await ask(served, KNOWN)
        reader, writer = await served.connect()
        writer.write(KNOWN.encode())
        await read_answer(reader)
        head = f"POST /echo/ HTTP/1.1\r\nContent-Length: {len(KNOWN)}\r\nExpect: 100-continue"
        writer.write(head.encode() + b"\r\n\r\n")
        # The head has arrived on its own when this comes.
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(KNOWN.encode())
        status, _, body = await read_answer(reader)
        writer.close()

    assert (status, body) == (200, KNOWN.encode())


def is_reading_a_body(served: Served) -> bool:
    return any(getattr(each, "_incoming") is not None for each in served.wire.all)  # noqa: B009


@pytest.mark.parametrize("has_one_packet", [True, False])
async def test_the_body_of_a_poll_is_never_taken_for_the_next_request(has_one_packet: bool) -> None:
    smuggled = b"GET /echo/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    head = KNOWN.encode().replace(b"Host: x", b"Host: x\r\nContent-Length: %d" % len(smuggled))
    async with serving() as served:
        reader, writer = await served.connect()
        for _ in range(2):
            if has_one_packet:
                writer.write(head + smuggled)
            else:
                writer.write(head)
                await eventually(lambda: is_reading_a_body(served))
                writer.write(smuggled)
            assert (await read_answer(reader))[0] == 304
        writer.write(KNOWN.encode())
        assert (await read_answer(reader))[0] == 304
        writer.close()

        assert list(served.wire.known) == [KNOWN.encode()]


async def test_only_so_many_polls_are_known_and_the_oldest_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MAX_KNOWN", 2)
    polls = [KNOWN.replace("Host: x", f"Host: {number}") for number in range(4)]
    async with serving() as served:
        await ask(served, *polls)
        await ask(served, polls[3])  # which is known, and parsed for its new connection

        assert list(served.wire.known) == [poll.encode() for poll in polls[2:]]


@pytest.mark.parametrize(
    "request_text",
    [
        POLL + "\r\n",
        POLL + 'If-None-Match: "6-0-9f3c"\r\nAccept: text/event-stream\r\n\r\n',
        POLL + 'If-None-Match: "7-0-9f3c"\r\nConnection: close\r\n\r\n',
        POLL + 'If-None-Match: "7-0-9f3c"\r\nX-Filler: ' + "x" * 1_024 + "\r\n\r\n",
        f"HEAD /config/v1/prod/checkout HTTP/1.1\r\nHost: x\r\n{AUTH}"
        'If-None-Match: "7-0-9f3c"\r\n\r\n',
        KNOWN.replace(CHECKOUT_TOKEN, "tgs_unknown"),
    ],
    ids=["no condition", "a stream", "ends its connection", "a long head", "a HEAD", "no token"],
)
async def test_what_is_no_ordinary_poll_is_never_kept(request_text: str) -> None:
    async with serving() as served:
        await ask(served, request_text)

        assert served.wire.known == {}

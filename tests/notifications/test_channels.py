"""Over real HTTP: what goes out, how failures are told apart, and how the dead are spared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from controlplane.notifications.upstream.post import Channel, NotTold
from tests.ports import find_free_port
from tests.telemetry.prometheus_server import http_server, reply
from tests.waiting import HUNG_S


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def answering(status: int, text: str = "", **headers: str) -> Iterator[tuple[str, list[str]]]:
    bodies: list[str] = []

    def answer(handler: BaseHTTPRequestHandler, body: str) -> None:
        bodies.append(body)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text.encode())

    with http_server(answer) as url:
        yield url, bodies


@contextmanager
def channel_to(url: str, **options: Any) -> Iterator[Channel]:
    """A channel that no slow machine makes give up: its clock stands, and its bounds are wide."""
    patient: dict[str, Any] = {"connect_s": HUNG_S, "read_s": HUNG_S, "clock": Clock()}
    with closing(Channel(url, **patient | options)) as channel:
        yield channel


def refusal(channel: Channel) -> NotTold:
    with pytest.raises(NotTold) as caught:
        channel.post({"a": "ü"}, {})
    return caught.value


def test_json_goes_out_in_utf8_with_the_headers_given() -> None:
    seen: list[tuple[str | None, str | None, str]] = []

    def answer(handler: BaseHTTPRequestHandler, body: str) -> None:
        seen.append((handler.headers["content-type"], handler.headers["idempotency-key"], body))
        reply(handler, 200, "", "text/plain")

    with http_server(answer) as url, channel_to(url) as channel:
        channel.post({"reason": "Größe"}, {"Idempotency-Key": "k-1"})

    assert seen == [("application/json", "k-1", '{"reason": "Größe"}')]
    assert json.loads(seen[0][2])["reason"] == "Größe"


@pytest.mark.parametrize(
    ("status", "is_refusal"),
    [(400, True), (401, True), (404, True), (301, True), (408, False), (429, False), (503, False)],
)
def test_what_asking_again_would_not_help_is_told_apart(status: int, is_refusal: bool) -> None:
    with answering(status, "because") as (url, _), channel_to(url) as channel:
        error = refusal(channel)

    assert error.is_refusal is is_refusal
    assert error.message.endswith(f"answered {status}: because")


def test_patience_that_is_asked_for_is_passed_on() -> None:
    with answering(429, "", Retry_After="17") as (url, _), channel_to(url) as channel:
        assert refusal(channel).asked_s == 17


def test_one_that_cannot_be_reached_or_does_not_answer_is_named_without_its_path() -> None:
    with channel_to(f"http://127.0.0.1:{find_free_port()}/secret-path") as gone:
        assert refusal(gone).message == "http://127.0.0.1 cannot be reached: ConnectError"

    def never(handler: BaseHTTPRequestHandler, _body: str) -> None:
        handler.rfile.read(1)  # until the client leaves

    with http_server(never) as url, channel_to(f"{url}/secret-path", read_s=0.2) as slow:
        assert refusal(slow).message == "http://127.0.0.1 did not answer in time"


def test_a_dead_channel_is_spared_after_three_failures_and_probed_later() -> None:
    clock = Clock()
    with answering(503) as (url, bodies), channel_to(url, clock=clock) as channel:
        for _ in range(5):
            error = refusal(channel)
        assert len(bodies) == 3
        assert "left alone" in error.message
        assert error.asked_s is not None
        assert 0 < error.asked_s <= 10

        clock.now_s += 10.5
        refusal(channel)
        assert len(bodies) == 4


def test_a_channel_that_refuses_is_well() -> None:
    with answering(400) as (url, bodies), channel_to(url) as channel:
        for _ in range(5):
            assert refusal(channel).is_refusal
        assert len(bodies) == 5

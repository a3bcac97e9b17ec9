"""The life of a process with a delivery plane, and which requests are whose."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from controlplane.delivery import process as process_module
from controlplane.delivery.process import DeliveryProcess, nothing_behind
from controlplane.delivery.server import main
from tests.delivery.builders import make_plane, request_scope
from tests.waiting import not_hung


class FailingOnce:
    """A feed with a defect that shows in its first run."""

    def __init__(self) -> None:
        self.runs = 0
        self.follows = asyncio.Event()
        self.is_stopped = False

    async def run(self) -> None:
        self.runs += 1
        if self.runs == 1:
            raise RuntimeError("a defect")
        self.follows.set()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.is_stopped = True


async def pages(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def statuses_of(process: DeliveryProcess, *paths: str) -> list[int]:
    statuses = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    for path in paths:
        await process(request_scope(path), None, send)
    return statuses


async def test_a_feed_that_fails_is_started_again_until_the_process_stops() -> None:
    delivery, feed = make_plane().delivery, FailingOnce()
    process = DeliveryProcess(plane=delivery, feed=feed, behind=pages, feed_again_s=0.0)
    told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    answered: asyncio.Queue[Any] = asyncio.Queue()
    life = asyncio.create_task(process({"type": "lifespan"}, told.get, answered.put))

    await told.put({"type": "lifespan.startup"})
    assert await answered.get() == {"type": "lifespan.startup.complete"}
    async with not_hung():
        await feed.follows.wait()
    assert delivery.is_ready
    await told.put({"type": "lifespan.shutdown"})
    assert await answered.get() == {"type": "lifespan.shutdown.complete"}
    await life

    assert feed.runs == 2
    assert not delivery.is_ready
    assert feed.is_stopped


async def test_polls_and_health_never_reach_the_pages() -> None:
    process = DeliveryProcess(plane=make_plane().delivery, feed=FailingOnce(), behind=pages)

    found = await statuses_of(
        process, "/config/v1/prod/checkout", "/livez", "/readyz", "/metrics", "/services/checkout/"
    )

    assert found == [200, 200, 200, 200, 204]


async def test_metrics_are_rendered_once_for_all_who_ask_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = DeliveryProcess(plane=make_plane().delivery, feed=FailingOnce(), behind=pages)
    rendered: list[object] = []

    def render(registry: object) -> bytes:
        rendered.append(registry)
        return b"# nothing"

    monkeypatch.setattr(process_module, "generate_latest", render)

    asked = [asyncio.ensure_future(statuses_of(process, "/metrics")) for _ in range(5)]
    asked[0].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)

    assert found[1:] == [[200]] * 4
    assert len(rendered) == 1


async def test_reports_that_cannot_be_written_in_time_keep_no_process_alive() -> None:
    feed = FailingOnce()
    feed.stop = asyncio.Event().wait  # type: ignore[method-assign, assignment]
    process = DeliveryProcess(plane=make_plane().delivery, feed=feed, behind=pages)
    process.stop_within_s = 0.01
    asked: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    answered: asyncio.Queue[Any] = asyncio.Queue()
    await asked.put({"type": "lifespan.shutdown"})

    with capture_logs() as lines:
        await process({"type": "lifespan"}, asked.get, answered.put)

    assert await answered.get() == {"type": "lifespan.shutdown.complete"}
    assert [line["event"] for line in lines] == ["feed.left"]


async def test_a_node_that_only_delivers_has_no_pages() -> None:
    process = DeliveryProcess(
        plane=make_plane().delivery, feed=FailingOnce(), behind=nothing_behind
    )

    assert await statuses_of(process, "/", "/api/v1/services", "/metrics") == [404, 404, 200]


def test_a_port_that_cannot_be_had_stops_the_process_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    process = DeliveryProcess(plane=make_plane().delivery, feed=FailingOnce(), behind=pages)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port, told in (
            (str(taken.getsockname()[1]), "cannot listen on 127.0.0.1, port "),
            ("99999", "argument --port: expected 0 to 65535, not '99999'"),
        ):
            monkeypatch.setattr("sys.argv", ["serve", "--port", port])
            with pytest.raises(SystemExit) as caught:
                main(process, description="a node")

            assert caught.value.code == 2
            assert told in capsys.readouterr().err

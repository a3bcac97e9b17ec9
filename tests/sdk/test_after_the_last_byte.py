"""A response ends with its last body message: what an application does later is not the request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

import pytest

from tests.delivery.builders import VirtualTimeLoop, run_virtually
from tests.sdk.inbound import Service, concurrency, policy
from tests.sdk.outbound import Caller
from tests.sdk.test_wsgi_middleware import Service as WsgiService
from tidegate import current_request
from tidegate.asgi import Message, Receive, Scope, Send
from tidegate.wsgi import Environ, StartResponse

Result = TypeVar("Result")

GET: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
START: Message = {"type": "http.response.start", "status": 200, "headers": []}
ONE: Message = {"type": "http.response.body", "body": b"one", "more_body": True}
EMPTY: Message = {"type": "http.response.body", "body": b"", "more_body": True}
LAST: Message = {"type": "http.response.body", "body": b"last"}
FILE: Message = {"type": "http.response.pathsend", "path": "/etc/motd"}
TRAILERS: Message = {"type": "http.response.trailers", "headers": []}

Step = Message | float  # a message to send, or seconds to be busy for


class Steps:
    """An application that sends and works as told, and says how far it came."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.service = Service(policy(deadline_ms=1000, concurrency=concurrency(1)), self)
        self.sent: list[Message] = []
        self.done = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for step in self.steps:
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                await send(dict(step))
            self.done += 1

    def run(self, story: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run it in virtual time, which is also what the service measures by."""

        def told(loop: VirtualTimeLoop) -> Coroutine[Any, Any, Result]:
            self.service.guard.clock = loop.time
            return story()

        return run_virtually(told)

    async def request(self) -> None:
        async def send(message: Message) -> None:
            self.sent.append(message)

        await self.service.app(GET, None, send)  # type: ignore[arg-type]  # nothing is received

    @property
    def statuses(self) -> list[int]:
        return [message["status"] for message in self.sent if "status" in message]

    def took_s(self, status: int = 200) -> float:
        series = self.service.metrics.server_duration.child("other", "GET", str(status))
        assert sum(series.counts) == 1
        return series.total

    @property
    def rejected(self) -> float:
        return self.service.rejected("deadline")


ENDINGS: list[tuple[Step, ...]] = [
    (START, LAST),
    (START, ONE, LAST),
    (START, ONE, {**EMPTY, "more_body": False}),
    (START, FILE),
    ({**START, "trailers": True}, LAST, {**TRAILERS, "more_trailers": True}, TRAILERS),
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_work_after_the_response_is_neither_cancelled_nor_timed(ending: tuple[Step, ...]) -> None:
    told = Steps(0.25, *ending, 3600.0)

    told.run(told.request)

    assert told.done == len(told.steps)
    assert told.took_s() == pytest.approx(0.25)
    assert (told.statuses, told.rejected) == ([200], 0)


@pytest.mark.parametrize("ending", ENDINGS)
def test_work_after_the_response_holds_no_place(ending: tuple[Step, ...]) -> None:
    told = Steps(*ending, 3600.0)

    async def two_after_each_other() -> None:
        first = asyncio.create_task(told.request())
        await asyncio.sleep(1.0)
        assert told.service.guard.lifecycle.inflight == 0
        second = asyncio.create_task(told.request())
        await asyncio.gather(first, second)

    told.run(two_after_each_other)

    assert told.statuses == [200, 200]
    assert told.service.guard.lifecycle.inflight == 0


def test_work_before_the_last_byte_is_part_of_the_response() -> None:
    told = Steps(START, ONE, 30.0, LAST)

    told.run(told.request)

    assert told.took_s() == pytest.approx(30.0)


@pytest.mark.parametrize("beginning", [(), (START,), (START, EMPTY)])
def test_a_stream_that_brings_no_byte_before_its_deadline_is_cut_off(
    beginning: tuple[Step, ...],
) -> None:
    told = Steps(*beginning, 2.0, LAST)

    told.run(told.request)

    assert told.done == len(beginning)
    assert told.rejected == 1
    assert told.statuses == ([200] if beginning else [504])


def test_a_stream_that_has_begun_in_time_goes_on_past_its_deadline() -> None:
    told = Steps(START, 0.5, ONE, 3600.0, ONE, 3600.0, LAST)

    told.run(told.request)

    assert (told.done, told.rejected) == (len(told.steps), 0)
    assert told.took_s() == pytest.approx(7200.5)


def test_a_response_begun_before_its_end_counts_as_in_flight() -> None:
    told = Steps(START, ONE, 10.0, LAST)

    async def look_meanwhile() -> int:
        running = asyncio.create_task(told.request())
        await asyncio.sleep(5.0)
        inflight = told.service.guard.lifecycle.inflight
        await running
        return inflight

    assert told.run(look_meanwhile) == 1


def test_a_refusal_frees_what_the_request_held_once() -> None:
    told = Steps(2.0, START, LAST)

    async def two() -> None:
        await told.request()
        await told.request()

    told.run(two)

    (limits,) = told.service.guard.endpoint_of("GET", "/").layers
    assert limits.gate is not None
    assert (limits.gate.inside, told.service.guard.lifecycle.inflight) == (0, 0)
    assert told.statuses == [504, 504]


def test_an_answer_after_the_deadline_is_no_success() -> None:
    told = Steps()

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(5.0)
        except asyncio.CancelledError:
            await send(dict(START))
            await send(dict(LAST))

    told.service.app.app = stubborn
    told.run(told.request)

    assert told.rejected == 1
    assert told.service.guard.lifecycle.inflight == 0


async def test_calls_after_the_response_have_no_deadline_any_more() -> None:
    caller = Caller(200)
    left: list[tuple[str, str | None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(dict(START))
        await send(dict(LAST))
        caller.clock.advance(3600)
        await caller.get()
        request = current_request()
        assert request is not None
        sent = caller.script.headers[-1]
        left.append((request.request_id, sent.get("x-request-deadline-ms")))

    service = Service(policy(deadline_ms=1000), app)
    service.guard.clock = caller.clock
    await service.get(x_request_id="req-7")

    assert left == [("req-7", None)]


async def test_a_background_task_that_fails_leaves_the_response_a_success() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(dict(START))
        await send(dict(LAST))
        raise RuntimeError("broken")

    service = Service(policy(), app)
    with pytest.raises(RuntimeError, match="broken"):
        await service.get(x_tenant="acme")

    assert sum(service.metrics.server_duration.child("other", "GET", "200").counts) == 1
    assert sum(service.metrics.server_duration.child("other", "GET", "500").counts) == 0
    assert service.metrics.tenant_requests.child("acme", "accepted").value == 1
    assert service.guard.lifecycle.inflight == 0


class Closing:
    """A WSGI application whose body has a callback for its end, as Django's and Werkzeug's."""

    def __init__(self) -> None:
        self.service = WsgiService(policy(deadline_ms=1000, concurrency=concurrency(1)), self)
        self.seen: list[tuple[str, float | None]] = []
        self.inflight: list[int] = []
        self.second: list[int] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self

    def __iter__(self) -> Iterator[bytes]:
        self._look()
        yield b"one"
        self._look()
        yield b"two"

    def close(self) -> None:
        self._look()
        self.service.clock.advance(3600)
        if not self.second:
            self.second.append(0)
            self.second = [self.service.get().status_code]

    def _look(self) -> None:
        request = current_request()
        assert request is not None
        self.seen.append((request.request_id, request.deadline_at_s))
        self.inflight.append(self.service.inflight)


def test_what_runs_at_the_close_of_a_body_is_not_the_request_in_threads() -> None:
    app = Closing()
    app.second = [0]

    app.service.get(X_Request_ID="req-7")

    series = app.service.source.metrics.server_duration.child("other", "GET", "200")
    assert (sum(series.counts), series.total) == (1, 0.0)
    assert app.inflight == [1, 1, 0]
    assert app.seen == [("req-7", 1001.0), ("req-7", None), ("req-7", None)]


def test_what_runs_at_the_close_of_a_body_holds_no_place_in_threads() -> None:
    app = Closing()

    app.service.get()

    assert app.second == [200]


def test_a_body_that_is_closed_unread_gives_its_place_back_before_its_callback() -> None:
    app = Closing()
    environ: Environ = {"REQUEST_METHOD": "HEAD", "PATH_INFO": "/"}

    body = app.service.app(environ, lambda status, headers, *error: lambda data: None)
    body.close()  # type: ignore[attr-defined]  # as a server does that sends no body to a HEAD

    assert app.inflight[0] == 0
    assert app.second == [200]

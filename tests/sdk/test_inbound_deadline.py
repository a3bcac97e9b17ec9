from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.sdk.inbound import HeldApp, Service, endpoint, plain_app, policy
from tidegate.asgi import Receive, Scope, Send
from tidegate.context import current_request, outgoing_headers
from tidegate.deadline import Deadline


async def test_a_handler_is_cancelled_at_the_deadline_and_the_caller_gets_504() -> None:
    held = HeldApp()
    service = Service(policy(deadline_ms=1), held)

    late = await service.get()

    assert late.status_code == 504
    assert late.json()["code"] == "deadline"
    assert late.headers["content-type"] == "application/problem+json"
    assert service.rejected("deadline") == 1
    assert service.guard.lifecycle.inflight == 0


async def test_an_endpoint_has_its_own_deadline() -> None:
    held = HeldApp()
    service = Service(policy(endpoints={"GET /slow": endpoint(deadline_ms=1)}), held)

    assert (await service.get("/slow")).status_code == 504


async def test_the_callers_deadline_goes_before_the_policys() -> None:
    held = HeldApp()
    service = Service(policy(deadline_ms=60_000), held)

    assert (await service.get(x_request_deadline_ms="1")).status_code == 504


async def test_a_request_whose_deadline_has_passed_never_reaches_the_handler() -> None:
    held = HeldApp()
    service = Service(policy(), held)

    assert (await service.get(x_request_deadline_ms="0")).status_code == 504
    assert held.started == 0


async def test_the_handler_knows_what_it_works_for_and_passes_it_on() -> None:
    seen: dict[str, str] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        service.clock.advance(0.5)
        seen.update(outgoing_headers(service.clock.now_s))
        await plain_app(scope, receive, send)

    service = Service(policy(), app)

    await service.get(
        x_request_id="abc-1",
        x_tenant="acme",
        x_criticality="sheddable",
        x_request_deadline_ms="2000",
    )

    assert seen == {
        "X-Request-ID": "abc-1",
        "X-Tenant": "acme",
        "X-Criticality": "sheddable",
        "X-Request-Deadline-Ms": "1500",
    }
    assert current_request() is None


async def test_a_response_already_begun_is_cut_off_not_answered_twice() -> None:
    statuses: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(str(message["status"])))

    service = Service(policy(deadline_ms=1), app)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}

    await service.app(scope, None, send)  # type: ignore[arg-type]  # nothing is received

    assert statuses == [200]
    assert service.rejected("deadline") == 1


async def test_a_handler_that_swallows_the_cancellation_leaves_the_task_clean() -> None:
    with Deadline(0.0) as deadline, contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()

    task = asyncio.current_task()
    assert task is not None
    assert deadline.passed
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_cancellation_from_outside_is_not_taken_for_the_deadline() -> None:
    async def work() -> None:
        with Deadline(3600.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_of_the_handlers_own_stays_its_own() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError("a query of the handler's")

    service = Service(policy(), app)

    with pytest.raises(TimeoutError, match="a query of the handler's"):
        await service.get()
    assert service.rejected("deadline") == 0

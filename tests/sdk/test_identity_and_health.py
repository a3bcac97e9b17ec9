from __future__ import annotations

import asyncio

import pytest

from tests.sdk.inbound import HeldApp, Service, plain_app, policy
from tests.sdk.outbound import Caller
from tidegate import RequestContext
from tidegate.asgi import Receive, Scope, Send
from tidegate.context import enter_request, leave_request
from tidegate.policy import DrainPolicy


async def test_a_request_id_comes_back_as_it_was_sent() -> None:
    service = Service(policy())

    answered = await service.get(x_request_id="order-17:retry.2")

    assert answered.headers["x-request-id"] == "order-17:retry.2"


@pytest.mark.parametrize("presented", ["", "a b", "x" * 129, 'quote"', "<script>"])
async def test_a_missing_or_bad_request_id_is_replaced(presented: str) -> None:
    service = Service(policy())

    answered = await service.get(x_request_id=presented)

    assert answered.headers["x-request-id"] != presented
    assert len(answered.headers["x-request-id"]) == 32


@pytest.mark.parametrize("sent", ["größe".encode(), "größe".encode("latin-1"), b"acme", b"\xff"])
async def test_a_tenant_is_sent_on_byte_for_byte_however_many_hops_it_takes(sent: bytes) -> None:
    for _ in range(3):
        caller = Caller(200)

        async def call(scope: Scope, receive: Receive, send: Send, caller: Caller = caller) -> None:
            await caller.get()
            await plain_app(scope, receive, send)

        service = Service(policy(), call)
        service.clock.now_s = caller.clock()
        await service.http.get("/", headers=[(b"X-Tenant", sent)])
        (arrived,) = (value for name, value in caller.script.headers[0].raw if name == b"x-tenant")
        assert arrived == sent


async def test_a_tenant_that_no_header_brought_is_sent_all_the_same() -> None:
    caller = Caller(200)
    token = enter_request(RequestContext("req-1", caller.clock() + 1.0, tenant="日本"))
    try:
        await caller.get()
    finally:
        leave_request(token)

    assert (b"x-tenant", "日本".encode()) in caller.script.headers[0].raw


async def test_refusals_carry_the_request_id_too() -> None:
    service = Service(policy(rate={"per_s": 0, "burst": 1}))

    refused = await service.get(x_request_id="abc")

    assert refused.headers["x-request-id"] == "abc"
    assert refused.headers["retry-after"] == "60"


async def test_health_is_answered_outside_every_limit() -> None:
    service = Service(policy(rate={"per_s": 0, "burst": 1}), serve_health=True)

    answers = [(await service.get(path)).status_code for path in ("/livez", "/readyz", "/metrics")]

    assert answers == [200, 200, 200]
    assert (await service.get("/")).status_code == 429


async def test_without_asking_health_paths_belong_to_the_application() -> None:
    service = Service(policy())

    assert (await service.get("/livez")).text == "served"


async def test_what_is_not_http_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    service = Service(policy(rate={"per_s": 0, "burst": 1}), app)
    await service.app({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # never called

    assert seen == ["lifespan"]


async def test_an_instance_leaves_not_ready_first_then_refusing_then_empty() -> None:
    held = HeldApp()
    service = Service(policy(), held, serve_health=True)
    guard = service.guard
    pauses_s: list[float] = []
    noticed = asyncio.Event()

    async def until_noticed(seconds: float) -> None:
        pauses_s.append(seconds)
        await noticed.wait()

    running = asyncio.create_task(service.get())
    await held.until_started(1)
    drain = guard.policy.lifecycle.drain
    leaving = asyncio.create_task(guard.lifecycle.drain(drain, sleep=until_noticed))
    await asyncio.sleep(0)

    # Not ready, but whoever has not noticed yet is still served.
    assert (await service.get("/readyz")).status_code == 503
    late = asyncio.create_task(service.get())
    await held.until_started(2)

    noticed.set()
    await asyncio.sleep(0)
    refused = await service.get()
    held.release.set()

    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert refused.headers["connection"] == "close"
    assert [(await running).status_code, (await late).status_code] == [200, 200]
    assert await leaving is True
    assert pauses_s == [5.0]
    assert (await service.get("/livez")).status_code == 200


async def test_draining_gives_up_on_requests_that_never_end() -> None:
    held = HeldApp()
    service = Service(policy(), held)
    running = asyncio.create_task(service.get())
    await held.until_started(1)
    hurried = DrainPolicy(not_ready_s=0, timeout_s=0)

    assert await service.guard.lifecycle.drain(hurried) is False
    held.release.set()
    await running


async def test_an_instance_may_ask_for_no_traffic_without_refusing_any() -> None:
    service = Service(policy(), serve_health=True)

    service.guard.lifecycle.set_ready(False)

    assert (await service.get("/readyz")).status_code == 503
    assert (await service.get("/")).status_code == 200

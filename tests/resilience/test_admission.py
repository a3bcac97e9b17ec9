from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from controlplane.resilience.middleware.admission import AdmissionMiddleware

SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": []}


class Held:
    """An application that answers when told to."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.both_run = asyncio.Barrier(3)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.both_run.wait()
        await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})


async def answer(application: AdmissionMiddleware) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await application(SCOPE, None, send)
    return sent


async def test_beyond_the_bound_a_request_is_refused_at_once_with_retry_after() -> None:
    held = Held()
    bounded = AdmissionMiddleware(held, max_concurrent=2, retry_after_s=lambda: 2)
    admitted = [asyncio.create_task(answer(bounded)) for _ in range(2)]
    await held.both_run.wait()

    start, body = await answer(bounded)

    headers = dict(start["headers"])
    assert start["status"] == 503
    assert headers[b"retry-after"] == b"2"
    assert headers[b"content-type"] == b"application/problem+json"
    assert json.loads(body["body"])["code"] == "unavailable"
    held.release.set()
    assert [(await task)[0]["status"] for task in admitted] == [200, 200]


async def test_a_slot_is_free_again_after_a_failure() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    bounded = AdmissionMiddleware(failing, max_concurrent=1)

    for _ in range(3):
        with pytest.raises(RuntimeError, match="broken"):
            await answer(bounded)

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.logs import current_request_id
from controlplane.resilience.middleware.request_id import RequestIdMiddleware


async def exchange(headers: list[tuple[bytes, bytes]], **scope: Any) -> tuple[str, dict[str, str]]:
    """Send one request; return the ID the application saw and the answer's headers."""
    seen: list[str] = []
    sent: list[Any] = []

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        seen.append(current_request_id())
        own = [(b"x-request-id", b"made-up-by-the-application")]
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    full = {"type": "http", "method": "GET", "path": "/", "headers": headers, **scope}
    await RequestIdMiddleware(application)(full, None, send)
    answer = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert len(sent[0]["headers"]) == len(answer)
    return seen[0], answer


async def test_the_callers_request_id_is_taken_over_and_answered() -> None:
    seen, answer = await exchange([(b"x-request-id", b"night-42")])

    assert seen == "night-42"
    assert answer["x-request-id"] == "night-42"


@pytest.mark.parametrize("value", [b"", b"two words", b"x" * 129, b"new\nline", "ä".encode()])
async def test_an_unsafe_request_id_is_replaced(value: bytes) -> None:
    seen, answer = await exchange([(b"x-request-id", value)])

    assert len(seen) == 32
    assert answer["x-request-id"] == seen


async def test_outside_a_request_there_is_no_request_id() -> None:
    await exchange([])

    assert current_request_id() == ""


async def test_invented_methods_and_paths_make_no_new_series() -> None:
    from controlplane.kernel.instruments import REGISTRY

    await exchange([], method="BREW", path="/coffee/123")

    labels = {"plane": "pages", "method": "other", "status": "200"}
    name = "tidegate_web_request_duration_seconds_count"
    assert REGISTRY.get_sample_value(name, labels) is not None


async def test_what_is_not_http_passes_untouched() -> None:
    passed: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        passed.append((scope, receive, send))

    scope = {"type": "lifespan"}
    await RequestIdMiddleware(application)(scope, "receive", "send")

    assert passed == [(scope, "receive", "send")]

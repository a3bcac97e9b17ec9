"""An httpx transport for an ASGI app that passes each message on as it is sent.

httpx's own waits for the whole response, which a stream never is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx


class StreamingAsgiTransport(httpx.AsyncBaseTransport):
    """Calls `app` for each request, in a task that ends when the response is closed."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(self._app, request)
        try:
            start = await exchange.next_message()
        except BaseException:
            await exchange.aclose()
            raise
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)


class _Exchange(httpx.AsyncByteStream):
    def __init__(self, app: Any, request: httpx.Request) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._has_left = asyncio.Event()
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.url.path,
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }
        self._task = asyncio.create_task(app(scope, self._receive, self._messages.put))

    async def _receive(self) -> dict[str, Any]:
        await self._has_left.wait()
        return {"type": "http.disconnect"}

    async def next_message(self) -> dict[str, Any]:
        getting = asyncio.ensure_future(self._messages.get())
        await asyncio.wait({getting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not getting.done() and self._messages.empty():
            getting.cancel()
            self._task.result()
            raise httpx.RemoteProtocolError("the app ended without a whole response")
        return await getting

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            message = await self.next_message()
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return

    async def aclose(self) -> None:
        """Leave, as a client that closes its connection does."""
        self._has_left.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self._task

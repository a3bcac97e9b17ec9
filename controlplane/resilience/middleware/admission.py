"""A bound on concurrent operator requests: beyond it, 503 at once rather than a growing queue."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

from controlplane.kernel.instruments import counter, gauge
from controlplane.kernel.logs import current_request_id

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

_REFUSED = counter(
    "tidegate_web_admission_refused_total", "Operator requests refused: every slot was busy."
)
_IN_FLIGHT = gauge("tidegate_web_in_flight_requests", "Operator requests being worked on now.")


class AdmissionMiddleware:
    """Admits at most `max_concurrent` requests at a time; others get 503 with `Retry-After`.

    The config API and health stand before this and are never refused here.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        max_concurrent: int,
        retry_after_s: Callable[[], int] = lambda: random.randint(1, 3),  # noqa: S311 - spreads retries
    ) -> None:
        self._app = app
        self._free = max_concurrent
        self._retry_after_s = retry_after_s

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one ASGI connection; all but HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._free <= 0:
            _REFUSED.inc()
            await _refuse(send, self._retry_after_s())
            return
        self._free -= 1
        _IN_FLIGHT.inc()
        try:
            await self._app(scope, receive, send)
        finally:
            self._free += 1
            _IN_FLIGHT.dec()


async def _refuse(send: Any, retry_after_s: int) -> None:
    document = {
        "type": "about:blank",
        "title": "Not available now",
        "status": 503,
        "detail": f"all operator slots are busy; try again in {retry_after_s} s",
        "code": "unavailable",
    }
    if current_request_id():
        document["request_id"] = current_request_id()
    body = json.dumps(document).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"retry-after", str(retry_after_s).encode()),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""A request ID in and out of every operator request, with one log line and one measurement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from controlplane.kernel.clock import monotonic_s
from controlplane.kernel.ids import is_request_id, new_request_id
from controlplane.kernel.instruments import histogram
from controlplane.kernel.logs import request_id_var

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
Message = MutableMapping[str, Any]

HEADER = b"x-request-id"
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_DURATION = histogram(
    "tidegate_web_request_duration_seconds",
    "Operator requests by plane (api, admin, static, pages), method and status.",
    ("plane", "method", "status"),
)
logger = structlog.get_logger(__name__)


class RequestIdMiddleware:
    """Takes over the caller's `X-Request-ID` when it is safe to, else makes one; answers with it.

    The ID is in `request_id_var` while the request is worked on, and so in every log line and
    audit entry it causes.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one ASGI connection; all but HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _presented(scope["headers"]) or new_request_id()
        exchange = _Exchange(request_id.encode("ascii"), send)
        known = request_id_var.set(request_id)
        started_s = monotonic_s()
        try:
            await self._app(scope, receive, exchange.send)
        finally:
            _finish(scope, exchange.status, monotonic_s() - started_s)
            request_id_var.reset(known)


class _Exchange:
    """Adds the ID to the response as it passes, and remembers its status; 0 until there is one."""

    def __init__(self, request_id: bytes, send: Callable[[Message], Awaitable[None]]) -> None:
        self.status = 0
        self._request_id = request_id
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != HEADER]
            message = {**message, "headers": [*headers, (HEADER, self._request_id)]}
        await self._send(message)


def _presented(headers: list[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == HEADER:
            text = value.decode("latin-1")
            return text if is_request_id(text) else None
    return None


def _finish(scope: Any, status: int, duration_s: float) -> None:
    # A closed set of labels: paths and methods that callers invent must not become series.
    method = scope["method"] if scope["method"] in _KNOWN_METHODS else "other"
    plane = _plane(scope["path"])
    _DURATION.labels(plane, method, str(status)).observe(duration_s)
    if plane != "static":
        logger.info(
            "request.finished",
            method=method,
            path=scope["path"],
            status=status,
            duration_ms=round(duration_s * 1000, 1),
        )


def _plane(path: str) -> str:
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    return first if first in ("api", "admin", "static") else "pages"

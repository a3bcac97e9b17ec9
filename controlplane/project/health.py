"""`/livez`, `/readyz` and `/metrics` of the web process.

Liveness says that the event loop turns. Readiness says that policies can be served: it does not
depend on the database, Valkey or Prometheus, because delivery survives without them, and a
restart would only lose the snapshots in memory.
"""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from controlplane.kernel.instruments import REGISTRY

PATHS = frozenset({"/livez", "/readyz", "/metrics"})


async def answer(path: str, *, ready: bool, send: Any) -> None:
    """Answer one of PATHS. Never touches the database; metrics may read the shared cache."""
    if path == "/livez":
        await _send(send, 200, b"alive\n", b"text/plain; charset=utf-8")
    elif path == "/readyz":
        if ready:
            await _send(send, 200, b"ready\n", b"text/plain; charset=utf-8")
        else:
            await _send(
                send,
                503,
                b"not ready: snapshots are not loaded, or the process is draining\n",
                b"text/plain; charset=utf-8",
                (b"retry-after", b"1"),
            )
    else:
        # Rendering takes milliseconds: off the loop, so that no poll waits for a scrape.
        body = await asyncio.to_thread(generate_latest, REGISTRY)
        await _send(send, 200, body, CONTENT_TYPE_LATEST.encode())


async def _send(
    send: Any, status: int, body: bytes, content_type: bytes, *extra: tuple[bytes, bytes]
) -> None:
    headers = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

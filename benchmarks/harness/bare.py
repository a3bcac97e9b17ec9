"""The least that an ASGI application on uvicorn can do: the floor that the hot path is held to.

    python -m benchmarks.harness.bare --port P --body FILE

A request with If-None-Match is answered 304, `Prefer: wait` and `Accept: text/event-stream` wait
for a POST to /wake, anything else is answered 200 with the file. Nothing is looked up or checked.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import socket
import time
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

HEADERS = (
    (b"etag", b'"7-0-5ca1ab1e"'),
    (b"tidegate-sequence", b"7"),
    (b"cache-control", b"no-store"),
    (b"vary", b"Authorization, Accept, Accept-Encoding, Prefer"),
)


def polls_app(body: bytes) -> Any:
    """Answer 304 or 200 at once, whatever was asked."""
    full = ((b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()), *HEADERS)  # fmt: skip

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for name, _ in scope["headers"]:
            if name == b"if-none-match":
                await send({"type": "http.response.start", "status": 304, "headers": HEADERS})
                await send({"type": "http.response.body", "body": b""})
                return
        await send({"type": "http.response.start", "status": 200, "headers": full})
        await send({"type": "http.response.body", "body": body})

    return app


class WaitersApp:
    """Long-polls and streams that wait for one event in memory."""

    def __init__(self, body: bytes) -> None:
        self.full = ((b"content-type", b"application/json"),
                     (b"content-length", str(len(body)).encode()), *HEADERS)  # fmt: skip
        self.body = body
        self.event = b"event: config\nid: 7\ndata: " + body + b"\n\n"
        self.changed = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Wait, or wake those who do."""
        if scope["method"] == "POST":
            changed, self.changed = self.changed, asyncio.Event()
            stamp = str(time.monotonic_ns()).encode()
            changed.set()
            await self._whole(send, stamp, ())
        elif dict(scope["headers"]).get(b"accept") == b"text/event-stream":
            await self._stream(send)
        else:
            await self.changed.wait()
            await self._whole(send, self.body, self.full)

    async def _whole(self, send: Any, body: bytes, headers: Any) -> None:
        headers = headers or ((b"content-length", str(len(body)).encode()),)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, send: Any) -> None:
        headers = ((b"content-type", b"text/event-stream"),)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        while True:
            await self.changed.wait()
            await send({"type": "http.response.body", "body": self.event, "more_body": True})


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--waiters", action="store_true")
    options = parser.parse_args()
    body = options.body.read_bytes()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=4096)

    async def serve() -> None:
        app = WaitersApp(body) if options.waiters else polls_app(body)
        config = uvicorn.Config(
            app, http="httptools", lifespan="off", access_log=False, log_level="error",
            server_header=False, backlog=4096,
        )  # fmt: skip
        await uvicorn.Server(config).serve([listener])

    gc.collect()
    gc.freeze()  # as our own process does
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()

"""A control plane on a real port, in threads: short polls, held polls and streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.sdk.following import publication


class RealPlane:
    """Serves one publication; `instances` are those that asked, with what they applied last."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.body = _body(7)
        self.streams_open = 0
        self.takes_streams = True
        self.is_stopping = False
        self.instances: dict[str, str | None] = {}
        self.url = ""

    @property
    def etag(self) -> str:
        return f'"{self.body["sequence"]}-0-aa"'

    def publish(self, sequence: int, shed_level: int = 0) -> None:
        with self.changed:
            self.body = _body(sequence, shed_level)
            self.changed.notify_all()

    def wait_until_applied(self, instance: str, sequence: int, within_s: float = 30.0) -> None:
        """Wait for a poll in which this instance says that it enforces this publication."""
        wanted = f'"{sequence}-0-aa"'
        with self.changed:
            is_applied = self.changed.wait_for(
                lambda: self.instances.get(instance) == wanted, within_s
            )
        assert is_applied, f"{instance} said {self.instances.get(instance)}"

    def note(self, instance: str, applied: str | None) -> None:
        with self.changed:
            self.instances[instance] = applied
            self.changed.notify_all()


def _body(sequence: int, shed_level: int = 0) -> dict[str, Any]:
    # An event of a stream has no header that could name its tag.
    return publication(sequence, shed_level) | {"etag": f"{sequence}-0-aa"}


class _Handler(BaseHTTPRequestHandler):
    plane: RealPlane
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers["Accept"] == "text/event-stream":
            self._stream() if self.plane.takes_streams else self._answer(406, b"{}")
            return
        self.plane.note(self.headers["Tidegate-Instance"], self.headers["Tidegate-Applied"])
        known = self.headers.get("If-None-Match", "")
        wait_s = float(self.headers.get("Prefer", "wait=0").removeprefix("wait="))
        with self.plane.changed:
            self.plane.changed.wait_for(
                lambda: self.plane.etag not in known or self.plane.is_stopping, wait_s
            )
            body, etag = json.dumps(self.plane.body).encode(), self.plane.etag
        self._answer(304 if etag in known else 200, b"" if etag in known else body, etag)

    def _answer(self, status: int, body: bytes, etag: str = "") -> None:
        self.send_response(status)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"retry: 100\n\n")
        sent = int(self.headers.get("Last-Event-ID", "-1"))
        plane = self.plane
        with plane.changed:
            plane.streams_open += 1
        while not plane.is_stopping:
            with plane.changed:
                if plane.body["sequence"] == sent:
                    plane.changed.wait(1.0)
                has_news = plane.body["sequence"] > sent
                sent, body = plane.body["sequence"], json.dumps(plane.body)
            event = f"event: config\nid: {sent}\ndata: {body}\n\n" if has_news else ": beat\n\n"
            try:
                self.wfile.write(event.encode())
            except OSError:
                break
        with plane.changed:
            plane.streams_open -= 1
            plane.changed.notify_all()

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may go whenever they like."""


@contextmanager
def real_plane() -> Iterator[RealPlane]:
    plane = RealPlane()
    handler = type("Handler", (_Handler,), {"plane": plane})
    with _Server(("127.0.0.1", 0), handler) as server:
        plane.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield plane
        finally:
            with plane.changed:
                plane.is_stopping = True
                plane.changed.notify_all()
            server.shutdown()
            thread.join()

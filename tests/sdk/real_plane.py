"""A control plane on a real port, in threads: short polls, held polls and streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.sdk.following import publication


class RealPlane:
    """Serves one publication; `instances` are those that asked, with what they applied last.

    `rejections` are what they said they could not apply.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.body = _body(7)
        self.sign: Callable[[bytes], str] | None = None
        self.keys: dict[str, Any] | None = None  # the list of signing keys; None is a 404
        self.streams_open = 0
        self.takes_streams = True
        self.is_stopping = False
        self.instances: dict[str, str | None] = {}
        self.rejections: dict[str, str | None] = {}
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

    def wait_until_rejected(self, instance: str, sequence: int, within_s: float = 30.0) -> None:
        """Wait for a poll in which this instance says that it cannot enforce this publication."""
        wanted = f'"{sequence}-0-aa"'
        with self.changed:
            is_rejected = self.changed.wait_for(
                lambda: (self.rejections.get(instance) or "").startswith(wanted), within_s
            )
        assert is_rejected, f"{instance} said {self.rejections.get(instance)}"

    def note(self, instance: str, applied: str | None, rejected: str | None) -> None:
        with self.changed:
            self.instances[instance] = applied
            self.rejections[instance] = rejected
            self.changed.notify_all()

    def signature_of(self, body: bytes) -> str | None:
        return None if self.sign is None else self.sign(body)


def _body(sequence: int, shed_level: int = 0) -> dict[str, Any]:
    # An event of a stream has no header that could name its tag.
    return publication(sequence, shed_level) | {"etag": f"{sequence}-0-aa"}


class _Handler(BaseHTTPRequestHandler):
    plane: RealPlane
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/config/v1/keys":
            keys = self.plane.keys
            self._answer(404 if keys is None else 200, json.dumps(keys).encode())
            return
        if self.headers["Accept"] == "text/event-stream":
            self._stream() if self.plane.takes_streams else self._answer(406, b"{}")
            return
        self.plane.note(
            self.headers["Tidegate-Instance"],
            self.headers["Tidegate-Applied"],
            self.headers["Tidegate-Rejected"],
        )
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
        signature = self.plane.signature_of(body) if body else None
        if signature is not None:
            self.send_header("Tidegate-Signature", signature)
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
            signature = plane.signature_of(body.encode())
            signed = "" if signature is None else f"signature: {signature}\n"
            news = f"event: config\nid: {sent}\n{signed}data: {body}\n\n"
            event = news if has_news else ": beat\n\n"
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

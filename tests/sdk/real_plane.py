"""A control plane on a real port, in threads: short polls, held polls and streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.sdk.following import publication
from tests.waiting import HUNG_S

A_POLL_IS_HELD = "/a-poll-is-held"  # an address that answers as soon as one is
BEAT_S = 0.1  # also how soon a stream is found to be left


class RealPlane:
    """Serves one publication; `instances` are those that asked, with what they applied last.

    `rejections` are what they said they could not apply. `on_note` is called, with `changed` held,
    whenever one of them said something.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.body = _body(7)
        self.sign: Callable[[bytes], str] | None = None
        self.keys: dict[str, Any] | None = None  # the list of signing keys; None is a 404
        self.streams_open = 0
        self.polls_held = 0
        self.on_note: Callable[[], None] = lambda: None
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

    def wait_until_applied(self, instance: str, sequence: int) -> None:
        """Wait for a poll in which this instance says that it enforces this publication."""
        wanted = f'"{sequence}-0-aa"'
        self.wait_until(
            lambda: self.instances.get(instance) == wanted,
            lambda: f"{instance} said {self.instances.get(instance)}",
        )

    def wait_until_rejected(self, instance: str, sequence: int) -> None:
        """Wait for a poll in which this instance says that it cannot enforce this publication."""
        wanted = f'"{sequence}-0-aa"'
        self.wait_until(
            lambda: (self.rejections.get(instance) or "").startswith(wanted),
            lambda: f"{instance} said {self.rejections.get(instance)}",
        )

    def wait_until_streaming(self, streams: int) -> None:
        """Wait until so many streams are open."""
        self.wait_until(
            lambda: self.streams_open == streams, lambda: f"{self.streams_open} streams are open"
        )

    def wait_until(self, is_so: Callable[[], bool], otherwise: Callable[[], str]) -> None:
        """Wait for what comes by a change of this plane."""
        with self.changed:
            assert self.changed.wait_for(is_so, HUNG_S), otherwise()

    def note(self, instance: str, applied: str | None, rejected: str | None) -> None:
        with self.changed:
            self.instances[instance] = applied
            self.rejections[instance] = rejected
            self.on_note()
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
        if self.path == A_POLL_IS_HELD:
            self.plane.wait_until(
                lambda: self.plane.polls_held > 0 or self.plane.is_stopping, lambda: "none came"
            )
            self._answer(204, b"")
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
        body, etag = self._hold(known, wait_s)
        self._answer(304 if etag in known else 200, b"" if etag in known else body, etag)

    def _hold(self, known: str, wait_s: float) -> tuple[bytes, str]:
        plane = self.plane
        with plane.changed:
            plane.polls_held += wait_s > 0.0
            plane.changed.notify_all()
            plane.changed.wait_for(lambda: plane.etag not in known or plane.is_stopping, wait_s)
            plane.polls_held -= wait_s > 0.0
            return json.dumps(plane.body).encode(), plane.etag

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
            plane.changed.notify_all()
        while not plane.is_stopping:
            with plane.changed:
                if plane.body["sequence"] == sent:
                    plane.changed.wait(BEAT_S)
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
    request_queue_size = 128  # more connections at once than any test makes

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
            thread.join(HUNG_S)

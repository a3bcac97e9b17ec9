"""A control plane that also streams, played in memory and in virtual time, and its followers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx

from tests.delivery.builders import VirtualTimeLoop
from tests.sdk.following import publication
from tidegate import PolicyClient
from tidegate.client import Surroundings
from tidegate.in_force import Subscriber

HEARTBEAT_S = 15.0
LONGEST_WAIT_S = 60.0  # of the real one


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that reached the control plane."""

    at_s: float
    kind: str  # stream, held, short or keys
    headers: httpx.Headers


class OpenStream(httpx.AsyncByteStream):
    """One stream: what is put in comes out; it ends by `end`, by a cut, or never."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.is_closed = False
        self.is_stuck = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            if chunk == b"cut":
                raise httpx.ReadError("connection reset")
            yield chunk

    async def aclose(self) -> None:
        self.is_closed = True

    def send(self, chunk: bytes) -> None:
        if not self.is_stuck:
            self._chunks.put_nowait(chunk)

    def cut(self) -> None:
        self._chunks.put_nowait(b"cut")

    def end(self) -> None:
        self._chunks.put_nowait(None)

    def say_goodbye(self, after_ms: int, reason: str = "draining") -> None:
        data = json.dumps({"reason": reason, "after_ms": after_ms})
        self.send(f"retry: {after_ms}\nevent: reconnect\ndata: {data}\n\n".encode())
        self.end()


Answers = Callable[[httpx.Request], httpx.Response | None]


class StreamingPlane(httpx.AsyncBaseTransport):
    """Serves one publication by short poll, held poll and stream; parts of it can be broken.

    `on_stream` and `on_held` answer in place of the real thing when they return something;
    `dead` refuses every connection.
    """

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._changed = asyncio.Event()
        self.body = publication(7)
        self.sign: Callable[[bytes], str | None] = lambda body: None
        self.keys: dict[str, Any] | None = None
        self.asked: list[Asked] = []
        self.streams: list[OpenStream] = []
        self.on_stream: Answers = lambda request: None
        self.on_held: Answers = lambda request: None
        self.on_short: Answers = lambda request: None
        self.is_dead = False
        self.keeps_heads = False  # of streams: not even their status arrives
        self.pushes = True
        self.retry_ms = 1000

    def publish(self, sequence: int, shed_level: int = 0, **changed: Any) -> None:
        """Put a publication in force: polls wake, streams bring it."""
        self.body = publication(sequence, shed_level, **changed)
        changed_before, self._changed = self._changed, asyncio.Event()
        changed_before.set()
        if self.pushes:
            self.push()

    def push(self) -> None:
        """Send what is in force to every stream."""
        for stream in self.open_streams:
            stream.send(self._event())

    @property
    def open_streams(self) -> list[OpenStream]:
        return [stream for stream in self.streams if not stream.is_closed]

    def kinds(self, since_s: float = 0.0) -> list[str]:
        """What was asked since then, in order."""
        return [asked.kind for asked in self.asked if asked.at_s >= since_s]

    def last(self, kind: str) -> httpx.Headers:
        """The headers of the last request of this kind."""
        return next(asked.headers for asked in reversed(self.asked) if asked.kind == kind)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        kind = _kind_of(request)
        self.asked.append(Asked(self._loop.time(), kind, request.headers))
        if self.is_dead:
            raise httpx.ConnectError("refused")
        if kind == "keys":
            answer = (
                httpx.Response(404) if self.keys is None else httpx.Response(200, json=self.keys)
            )
        elif kind == "stream" and self.keeps_heads:
            await asyncio.sleep(3600)
            raise AssertionError("nobody waits an hour for a head")
        elif kind == "stream":
            answer = self.on_stream(request) or self._stream(request)
        elif kind == "held":
            answer = self.on_held(request) or await self._hold(request)
        else:
            answer = self.on_short(request) or self._poll(request)
        answer.headers["Date"] = formatdate(self._loop.wall_unix(), usegmt=True)
        return answer

    def _poll(self, request: httpx.Request) -> httpx.Response:
        tag = f'"{self.etag}"'
        if tag in request.headers.get("if-none-match", ""):
            return httpx.Response(304, headers={"ETag": tag})
        body = self._bytes()
        headers = {"ETag": tag}
        signature = self.sign(body)
        if signature is not None:
            headers["Tidegate-Signature"] = signature
        return httpx.Response(200, content=body, headers=headers)

    async def _hold(self, request: httpx.Request) -> httpx.Response:
        wait_s = min(float(request.headers["prefer"].removeprefix("wait=")), LONGEST_WAIT_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self._poll(request).status_code == 304:
                    await self._changed.wait()
        return self._poll(request)

    def _stream(self, request: httpx.Request) -> httpx.Response:
        stream = OpenStream()
        self.streams.append(stream)
        stream.send(f"retry: {self.retry_ms}\n\n".encode())
        if int(request.headers.get("last-event-id", -1)) < self.body["sequence"]:
            stream.send(self._event())
        self._beat(stream)
        return event_stream(stream)

    def _beat(self, stream: OpenStream) -> None:
        if not stream.is_closed:
            stream.send(b": still here\n\n")
            self._loop.call_later(HEARTBEAT_S, self._beat, stream)

    @property
    def etag(self) -> str:
        return f"{self.body['sequence']}-0-aa"

    def _bytes(self) -> bytes:
        return json.dumps({"etag": self.etag, **self.body}).encode()

    def _event(self) -> bytes:
        body = self._bytes()
        signature = self.sign(body)
        signed = "" if signature is None else f"signature: {signature}\n"
        head = f"event: config\nid: {self.body['sequence']}\n{signed}data: "
        return head.encode() + body + b"\n\n"


def event_stream(stream: httpx.AsyncByteStream) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=stream)


def _kind_of(request: httpx.Request) -> str:
    if request.url.path == "/config/v1/keys":
        return "keys"
    if request.headers["accept"] == "text/event-stream":
        return "stream"
    return "held" if "prefer" in request.headers else "short"


class Following:
    """A client that follows a `StreamingPlane` in virtual time."""

    def __init__(
        self,
        loop: VirtualTimeLoop,
        *,
        luck: float = 0.5,
        state_dir: Path | None = None,
        plane: StreamingPlane | None = None,
        on_change: tuple[Subscriber, ...] = (),
        **options: Any,
    ) -> None:
        self.loop = loop
        self.plane = plane or StreamingPlane(loop)
        self.applied: list[tuple[float, int]] = []  # virtual seconds, shed level
        self.is_disk_full = False
        self.client = PolicyClient(
            "http://tidegate",
            "prod",
            "checkout",
            "tgs_secret",
            instance_id="checkout-1",
            state_dir=state_dir,
            on_change=[
                *on_change,
                lambda policy: self.applied.append((loop.time(), policy.inbound.shedding.level)),
            ],
            surroundings=Surroundings(
                transport=self.plane,
                wall=loop.wall_unix,
                elapsed=loop.time,
                monotonic=loop.time,
                uniform=lambda: luck,
                in_thread=self._at_once,
            ),
            **options,
        )

    async def _at_once(self, work: Callable[[], None]) -> None:
        """Virtual time does not wait for threads."""
        if self.is_disk_full:
            raise OSError(28, "No space left on device")
        work()

    async def __aenter__(self) -> Following:
        await self.client.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.stop()

    @property
    def level(self) -> int:
        return self.client.policy.inbound.shedding.level

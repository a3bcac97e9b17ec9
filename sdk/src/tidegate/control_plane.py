"""The control plane as this process reaches it: polls, streams and keys, behind one circuit."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import platform
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar
from urllib.parse import quote

import httpx

from tidegate.breaker import Breaker
from tidegate.clock import Clock, ServerClock, monotonic_s
from tidegate.credentials import Token, TokenUnusable, bearer_of, checked_url
from tidegate.outbound_policy import BreakerMode, BreakerPolicy, WindowKind, WindowPolicy
from tidegate.publication import parse_etag
from tidegate.retry import retry_after_s
from tidegate.streams import PolicyStream, StreamEnded

Answered = TypeVar("Answered")

KEYS_PATH = "/config/v1/keys"
MAX_KEYS_BYTES = 1024 * 1024
MAX_BODY_BYTES = 8 * 1024 * 1024
_DETAIL_BYTES = 4096  # more than is shown: the end of a token must not be cut off before it
_CONNECT_S = 2.0
_ANSWER_S = 5.0  # how long an answer may take beyond the wait that was asked for
FIRST_BYTE_S = 5.0  # a server begins a stream at once; what begins late is being buffered

# Five failures in a row, and no success among them: then one probe every five seconds. A rate
# below 1 would open the circuit on the very success that follows four failures.
_CIRCUIT = BreakerPolicy(
    mode=BreakerMode.AUTO,
    window=WindowPolicy(WindowKind.COUNT, 5),
    min_calls=5,
    failure_rate=1.0,
    slow_call_ms=86_400_000,
    slow_call_rate=1.0,
    open_s=5.0,
    half_open_calls=1,
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a poll says of its sender; two polls that say the same need not follow at once.

    `etag` is what it has stored. `unstored` is what it enforces while its disk fails.
    """

    etag: str | None = None
    applied: str | None = None
    rejected: str | None = None
    reason: str = ""
    is_final: bool = True  # a rejected tag that may yet be good is asked for again
    unstored: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the control plane answered; `was_held` when it kept the poll waiting as asked."""

    status: int
    etag: str
    body: bytes
    was_held: bool
    signature: str | None = None


class StreamUnsupported(Exception):
    """The control plane answers, but a stream does not get through to here."""


class Unavailable(Exception):
    """No usable answer. `retry_after_s` is what the server asked for, if it did.

    `is_refusal` when the control plane is up but will not serve this client (401, 403, 404);
    `is_silence` when a request was taken and no answer to it began in time; `is_unasked` when
    there is no token to ask with, which says nothing about the control plane.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry_after_s: float | None = None,
        is_refusal: bool = False,
        is_silence: bool = False,
        is_unasked: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.is_refusal = is_refusal
        self.is_silence = is_silence
        self.is_unasked = is_unasked


class ControlPlane:
    """Polls the config API for one service.

    Args:
        url: the control plane's address, without a path.
        token: or a function that returns the present one.
        clock: learns the server's time from every answer.
        transport: replaces the network, for tests.

    Raises:
        ValueError: nothing can be asked at this address, or with this token.
    """

    def __init__(
        self,
        url: str,
        environment: str,
        service: str,
        *,
        token: Token,
        clock: ServerClock,
        transport: httpx.AsyncBaseTransport | None = None,
        monotonic: Clock = monotonic_s,
    ) -> None:
        path = f"/config/v1/{quote(environment, safe='')}/{quote(service, safe='')}"
        address = checked_url(url)
        self._url = address + path
        self._keys_url = address + KEYS_PATH
        self._clock = clock
        self._monotonic = monotonic
        self._transport = transport
        self._token = bearer_of(token)
        self._headers = {
            "Accept": "application/json",
            "User-Agent": f"tidegate/{_sdk_version()} python/{platform.python_version()}",
        }
        self._http: httpx.AsyncClient | None = None
        self.circuit = Breaker(_CIRCUIT, monotonic)

    async def poll(self, instance: str, said: Said, wait_s: float) -> Answer:
        """Ask once, waiting for a change for at most `wait_s`.

        Raises:
            Unavailable: no answer, an error, or the circuit is open.
        """
        started_s = self._monotonic()
        headers = self._headers | headers_of(instance, said, wait_s)
        answer = await self._behind_circuit(lambda: self._ask(headers, wait_s))
        held_s = self._monotonic() - started_s
        was_held = held_s * 2.0 >= wait_s > 0.0
        return Answer(answer.status, answer.etag, answer.body, was_held, answer.signature)

    async def keys(self) -> object:
        """The list of signing keys, as JSON.

        Raises:
            Unavailable: no answer, an error, no JSON, or the circuit is open.
        """
        return await self._behind_circuit(self._ask_for_keys)

    @contextlib.asynccontextmanager
    async def stream(
        self, instance: str, said: Said, sequence: int | None
    ) -> AsyncIterator[PolicyStream]:
        """Open a stream of what comes after `sequence`; None asks for the present policy first.

        It says what a poll says, too, for a server that meets this instance for the first time;
        that it was heard is nothing a stream can tell.

        Raises:
            StreamUnsupported: answered, but not by a stream that gets through.
            Unavailable: no answer, an error, or the circuit is open.
        """
        headers = self._headers | headers_of(instance, said, 0.0)
        headers |= {
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",  # a proxy that compresses also buffers
            "Cache-Control": "no-cache",
        }
        if sequence is not None:
            headers["Last-Event-ID"] = str(sequence)
        async with contextlib.AsyncExitStack() as open_until_left:
            stream = await self._behind_circuit(lambda: self._open(headers, open_until_left))
            yield stream

    async def close(self) -> None:
        """Give the connections up."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def forget_connections(self) -> None:
        """Begin with none: those of an event loop that is over cannot be used, nor closed."""
        self._http = None

    async def _behind_circuit(self, ask: Callable[[], Awaitable[Answered]]) -> Answered:
        permit = self.circuit.allow()
        if permit is None:
            # One second at least: when open_s is over, another poll may hold the only probe.
            raise Unavailable("its circuit is open", retry_after_s=self.circuit.retry_after_s or 1)
        try:
            answer = await ask()
        except StreamUnsupported:
            self.circuit.record(True, 0.0, permit)
            raise
        except Unavailable as problem:
            if problem.is_unasked:
                self.circuit.cancel(permit)
            else:
                self.circuit.record(problem.is_refusal, 0.0, permit)
            raise
        except (httpx.HTTPError, TimeoutError) as problem:
            self.circuit.record(False, 0.0, permit)
            reason = self._token.hide(f"{type(problem).__name__}: {problem}".rstrip(": "))
            is_silence = isinstance(problem, TimeoutError | httpx.ReadTimeout)
            # Without its cause, whose text may quote the headers that were sent.
            raise Unavailable(reason, is_silence=is_silence) from None
        except BaseException:
            self.circuit.cancel(permit)
            raise
        self.circuit.record(True, 0.0, permit)
        return answer

    async def _ask(self, headers: dict[str, str], wait_s: float) -> Answer:
        patience_s = wait_s + _ANSWER_S
        async with (
            asyncio.timeout(patience_s + _CONNECT_S),
            self._request(self._url, headers, patience_s) as response,
        ):
            body = await _read(response, MAX_BODY_BYTES)
        etag = parse_etag(response.headers.get("etag", ""))
        if response.status_code == 304 or (response.status_code == 200 and etag):
            signature = response.headers.get("tidegate-signature")
            return Answer(response.status_code, etag, body, was_held=False, signature=signature)
        raise self._refusal(response, body)

    async def _ask_for_keys(self) -> object:
        async with (
            asyncio.timeout(_ANSWER_S + _CONNECT_S),
            self._request(self._keys_url, self._headers, _ANSWER_S) as response,
        ):
            body = await _read(response, MAX_KEYS_BYTES)
        if response.status_code != 200:
            raise self._refusal(response, body)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as problem:
            raise Unavailable(f"the list of signing keys is not JSON ({problem})") from None

    async def _open(
        self, headers: dict[str, str], open_until_left: contextlib.AsyncExitStack
    ) -> PolicyStream:
        async with asyncio.timeout(FIRST_BYTE_S + _CONNECT_S):
            # httpx watches no read here: the silence of a stream is ours to judge.
            response = await open_until_left.enter_async_context(
                self._request(self._url, headers, None)
            )
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if response.status_code in (200, 304) and kind != "text/event-stream":
                raise StreamUnsupported(f"HTTP {response.status_code} with {kind or 'no type'}")
            if response.status_code != 200:
                refusal = self._refusal(response, await _read(response, MAX_BODY_BYTES))
                if response.status_code == 406:
                    raise StreamUnsupported(str(refusal))
                raise refusal
        stream = PolicyStream(response.aiter_bytes())
        try:
            await stream.begin(FIRST_BYTE_S)
        except StreamEnded as problem:
            if problem.was_silent:
                raise StreamUnsupported(f"its first byte is held back: {problem}") from None
            raise Unavailable(f"the stream ended before it began: {problem}") from None
        return stream

    @contextlib.asynccontextmanager
    async def _request(
        self, url: str, headers: dict[str, str], read_s: float | None
    ) -> AsyncIterator[httpx.Response]:
        """Send, and learn the time from the head of the answer."""
        if url != self._keys_url:  # the keys are public
            headers = headers | self._authorization()
        if self._http is None:
            self._http = httpx.AsyncClient(transport=self._transport, follow_redirects=False)
        timeout = httpx.Timeout(read_s, connect=_CONNECT_S, pool=_CONNECT_S, write=_ANSWER_S)
        sent_s = self._clock.elapsed_s()
        async with self._http.stream("GET", url, headers=headers, timeout=timeout) as response:
            self._clock.observe(response.headers.get("date"), sent_s=sent_s)
            yield response

    def _authorization(self) -> dict[str, str]:
        try:
            return {"Authorization": f"Bearer {self._token()}"}
        except TokenUnusable as problem:
            reason = f"there is no token to ask with: {problem}"
            raise Unavailable(reason, is_unasked=True) from None

    def _detail(self, body: bytes) -> str:
        return self._token.hide(body[:_DETAIL_BYTES].decode("utf-8", "replace"))[:200]

    def _refusal(self, response: httpx.Response, body: bytes) -> Unavailable:
        return Unavailable(
            f"HTTP {response.status_code} {self._detail(body)}".rstrip(),
            retry_after_s=retry_after_s(response.headers.get("retry-after"), self._clock.now_s()),
            is_refusal=400 <= response.status_code < 500 and response.status_code != 429,
        )


def headers_of(instance: str, said: Said, wait_s: float) -> dict[str, str]:
    """The headers of a poll; a tag rejected for good is known too, so only a third one is news.

    So is a tag that is enforced and not stored, to a poll that waits: it could not wait otherwise.
    Every other poll leaves it out, and so brings that policy again for as long as no disk has it.
    """
    headers = {"Tidegate-Instance": instance}
    unstored = said.unstored if wait_s >= 1.0 else None
    known = [tag for tag in (said.etag, unstored) if tag is not None]
    if known:
        rejected = [said.rejected] if said.rejected is not None and said.is_final else []
        headers["If-None-Match"] = ", ".join(f'"{tag}"' for tag in (*known, *rejected))
    if said.applied is not None:
        headers["Tidegate-Applied"] = f'"{said.applied}"'
    if said.rejected is not None:
        headers["Tidegate-Rejected"] = f'"{said.rejected}"; reason="{_quotable(said.reason)}"'
    if wait_s >= 1.0:
        headers["Prefer"] = f"wait={int(wait_s)}"
    return headers


def _quotable(reason: str) -> str:
    """At most 300 printable ASCII characters, quoted as HTTP wants them."""
    printable = re.sub(r"[^\x20-\x7e]+", " ", reason)[:300]
    return printable.replace("\\", "\\\\").replace('"', '\\"')


async def _read(response: httpx.Response, at_most: int) -> bytes:
    chunks = bytearray()
    async for chunk in response.aiter_bytes():
        chunks += chunk
        if len(chunks) > at_most:
            raise Unavailable(f"the answer is larger than {at_most} bytes")
    return bytes(chunks)


@functools.cache  # looked up on disk, which a forked child need not do again
def _sdk_version() -> str:
    try:
        return version("tidegate")
    except PackageNotFoundError:
        return "unknown"

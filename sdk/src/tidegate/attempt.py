"""One attempt at a call: sent once within its time, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib

import httpx

from tidegate.deadline import Deadline
from tidegate.errors import BreakerOpen, DeadlineExceeded
from tidegate.outgoing import ShrinkingTimeouts

_BROKEN_CONNECTION = httpx.NetworkError | httpx.RemoteProtocolError | httpx.ProxyError

# An answer no larger than this is read before a retry, which keeps its connection usable.
_DRAIN_BYTES = 16_384
_DRAIN_S = 0.05
_LONGEST_LENGTH = 20  # digits; Python refuses to read thousands of them


class Attempt:
    """How one attempt ended: with a response or an error.

    `cause` is what `retry.on` may name, empty after a success; `outcome` is the label in the
    metrics.
    """

    __slots__ = ("cause", "error", "is_sent", "outcome", "response")

    def __init__(
        self,
        cause: str,
        outcome: str,
        response: httpx.Response | None = None,
        error: Exception | None = None,
        *,
        is_sent: bool = True,
    ) -> None:
        self.cause = cause
        self.outcome = outcome
        self.response = response
        self.error = error
        self.is_sent = is_sent

    def answer(self) -> httpx.Response:
        """The response; only for attempts that ended with one."""
        if self.response is None:
            raise ValueError(f"an attempt that ended with {self.outcome} has no response")
        return self.response

    async def discard(self) -> None:
        """Close the response of a failed attempt before the next."""
        if self.response is None:
            return
        try:
            if self._is_small(self.response):
                with contextlib.suppress(TimeoutError, httpx.HTTPError):
                    async with asyncio.timeout(_DRAIN_S):
                        await self.response.aread()
        finally:
            await self.response.aclose()

    def discard_in_thread(self, timeouts: ShrinkingTimeouts) -> None:
        """As `discard`, in a thread: a small answer is read, if it is there."""
        if self.response is None:
            return
        try:
            if self._is_small(self.response):
                timeouts.end_in(_DRAIN_S)
                with contextlib.suppress(httpx.HTTPError):
                    self.response.read()
        finally:
            self.response.close()

    async def close(self) -> None:
        """Close the response, read or not; nothing happens when there is none."""
        if self.response is not None:
            await self.response.aclose()

    def close_in_thread(self) -> None:
        """As `close`, in a thread."""
        if self.response is not None:
            self.response.close()

    @staticmethod
    def _is_small(response: httpx.Response) -> bool:
        length = response.headers.get("content-length", "")
        return length.isdecimal() and len(length) <= _LONGEST_LENGTH and int(length) <= _DRAIN_BYTES


def too_late(request: httpx.Request, dependency: str) -> Attempt:
    """No attempt: the deadline has passed."""
    error = DeadlineExceeded(dependency, request=request)
    return Attempt("deadline", "deadline", error=error, is_sent=False)


def refused(request: httpx.Request, dependency: str, retry_after_s: float) -> Attempt:
    """No attempt: the breaker is open."""
    error = BreakerOpen(dependency, retry_after_s, request=request)
    return Attempt("breaker", "breaker_open", error=error, is_sent=False)


async def send_once(
    transport: httpx.AsyncBaseTransport,
    request: httpx.Request,
    dependency: str,
    limit_s: float,
    *,
    is_clipped: bool,
) -> Attempt:
    """Send the request and wait for its answer's headers, at most `limit_s`.

    Args:
        is_clipped: the limit is what the deadline left, less than the policy's `attempt_ms`.

    Raises:
        Exception: what the transport raises for a mistake of the caller, such as a bad URL.
    """
    response: httpx.Response | None = None
    try:
        with Deadline(limit_s):
            response = await transport.handle_async_request(request)
    except httpx.TransportError as error:
        return attempt_of_error(error, request, dependency, limit_s, is_clipped=is_clipped)
    if response is None:
        return _timed_out(request, dependency, limit_s, is_clipped=is_clipped)
    return attempt_of_response(response)


def send_once_in_thread(
    transport: httpx.BaseTransport,
    request: httpx.Request,
    dependency: str,
    limit_s: float,
    *,
    is_clipped: bool,
) -> Attempt:
    """As `send_once`, where nothing can cancel: the request's own timeouts keep the limit.

    Raises:
        Exception: what the transport raises for a mistake of the caller, such as a bad URL.
    """
    try:
        response = transport.handle_request(request)
    except httpx.TransportError as error:
        return attempt_of_error(error, request, dependency, limit_s, is_clipped=is_clipped)
    return attempt_of_response(response)


def attempt_of_response(response: httpx.Response) -> Attempt:
    """How an attempt ended that got an answer."""
    status = response.status_code
    if status < 400:
        return Attempt("", "success", response)
    if status >= 500:
        return Attempt(str(status), "error", response)
    # Other 4xx are the caller's mistakes: the dependency did its work.
    return Attempt(str(status), "limited" if status == 429 else "success", response)


def attempt_of_error(
    error: httpx.TransportError,
    request: httpx.Request,
    dependency: str,
    limit_s: float,
    *,
    is_clipped: bool,
) -> Attempt:
    """How an attempt ended that got none.

    Raises:
        httpx.TransportError: this one, when it is a mistake of the caller.
    """
    if isinstance(error, httpx.PoolTimeout):
        return Attempt("no_connection", "no_connection", error=error)
    if isinstance(error, httpx.ConnectTimeout | _BROKEN_CONNECTION):
        return Attempt("connect_error", "connect_error", error=error)
    if isinstance(error, httpx.TimeoutException):
        return _timed_out(request, dependency, limit_s, is_clipped=is_clipped, cause=error)
    raise error


def _timed_out(
    request: httpx.Request,
    dependency: str,
    limit_s: float,
    *,
    is_clipped: bool,
    cause: Exception | None = None,
) -> Attempt:
    if is_clipped:
        late = DeadlineExceeded(dependency, request=request)
        late.__cause__ = cause
        return Attempt("deadline", "deadline", error=late)
    slow = httpx.ReadTimeout(
        f"{dependency} did not answer within {limit_s * 1000:.0f} ms", request=request
    )
    slow.__cause__ = cause
    return Attempt("timeout", "timeout", error=slow)

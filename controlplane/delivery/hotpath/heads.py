"""One request as it arrives: its head, parsed by llhttp, and its body, within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

import httptools

from controlplane.delivery.hotpath.problems import Refusal
from controlplane.delivery.hotpath.requests import Request, body_too_large

MAX_FRAMING_BYTES = 64 * 1024
"""What a chunked body may hold besides the body: sizes, extensions and trailers."""


class BadRequest(Exception):
    """What arrives is no HTTP/1.1 request we would read further; the connection ends."""

    def __init__(self, detail: str, refusal: Refusal | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.refusal = refusal or Refusal(400, "bad-request", f"no valid HTTP request: {detail}")


@dataclass(slots=True)
class Head:
    """The request line and the headers."""

    method: str = ""
    path: str = ""
    query: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    expects_continue: bool = False


class Incoming:
    """A request whose head is complete and whose body may still arrive.

    llhttp is given the head alone first: nothing behind it is read before it is known whose
    request this is and how long its body may be.

    `is_head_only` says that it has no body: then `raw` is all of it. Without `keeps_body` a body is
    read over: the request has an empty one.
    """

    __slots__ = (
        "_body", "_declared_bytes", "_fed_bytes", "_has_more_begun", "_is_chunked", "_is_head_read",
        "_limit_bytes", "_parser", "_size", "_url", "head", "is_complete", "is_head_only",
        "keeps_alive", "keeps_body", "raw",
    )  # fmt: skip

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.head = Head()
        self.is_complete = False
        self.keeps_alive = False
        self.keeps_body = True
        self._url = b""
        self._body: list[bytes] = []
        self._size = 0
        self._limit_bytes = 0
        self._declared_bytes = 0
        self._fed_bytes = 0
        self._is_chunked = False
        self._is_head_read = False
        self._has_more_begun = False
        self._parser = httptools.HttpRequestParser(self)
        self._feed(raw)
        self.is_head_only = self.is_complete
        self._read_head()
        self._let_parser_go()

    def allow_bytes(self, limit_bytes: int) -> None:
        """Say how long the body may be.

        Raises:
            BadRequest: it says itself that it is longer.
        """
        self._limit_bytes = limit_bytes
        if self._declared_bytes > limit_bytes:
            raise BadRequest("the body is too large", body_too_large(limit_bytes))

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to this request and return the rest.

        Raises:
            BadRequest: the body is malformed or too long.
        """
        if self.is_complete:
            return data
        self._feed(data)
        self._fed_bytes += len(data)
        if self._size > self._limit_bytes:
            raise BadRequest("the body is too large", body_too_large(self._limit_bytes))
        if not self.is_complete and self._fed_bytes - self._size > MAX_FRAMING_BYTES:
            raise BadRequest("the chunks hold little but framing")
        self._let_parser_go()
        if self._has_more_begun:
            # What follows a body in the same packet cannot be told from it here.
            self.keeps_alive = False
        return b""

    def request(self) -> Request:
        """Return the complete request."""
        head = self.head
        return Request(head.method, head.path, head.query, head.headers, b"".join(self._body))

    # --- llhttp's side -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Note when a second request begins behind this one."""
        self._has_more_begun = self.is_complete

    def on_url(self, url: bytes) -> None:
        """Collect the address."""
        if not self._has_more_begun:
            self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; trailers are none, or they would pass by whoever checked the head."""
        if self._is_head_read:
            return
        name, value = name.lower(), value.rstrip(b" \t")  # RFC 9110, 5.5: that is not part of it
        self.head.headers.append((name, value))
        if name == b"content-length":
            self._declared_bytes = int(value)  # llhttp has checked that it is a number
        elif name == b"expect" and value.lower() == b"100-continue":
            self.head.expects_continue = True
        elif name == b"transfer-encoding":
            self._is_chunked = True  # llhttp takes no other that says how long a request is

    def on_headers_complete(self) -> None:
        """Note whether the client would go on: llhttp knows it here only."""
        if not self._is_head_read:
            self._is_head_read = True
            is_current = self._parser.get_http_version() == "1.1"
            self.keeps_alive = is_current and bool(self._parser.should_keep_alive())
            self.head.expects_continue &= is_current  # an older client would take it for the answer

    def on_body(self, body: bytes) -> None:
        """Collect a part of the body."""
        if self.is_complete:
            return
        self._size += len(body)
        if self.keeps_body and self._size <= self._limit_bytes:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        self.is_complete = True

    # -----------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._declared_bytes or self._is_chunked:
                # llhttp stops ahead of the body, which would be taken for the next request.
                raise BadRequest("an offer to change protocols has no body here") from None
            self.is_complete = True  # the offer may be ignored
        except httptools.HttpParserError as error:
            if not self.is_complete:
                raise BadRequest(str(error) or type(error).__name__) from None
            self._has_more_begun = True  # garbage behind a complete request: answer, then end

    def _let_parser_go(self) -> None:
        # It holds on to this object: each request would wait for the garbage collector.
        if self.is_complete:
            del self._parser

    def _read_head(self) -> None:
        try:
            address = httptools.parse_url(self._url)
        except httptools.HttpParserInvalidURLError:
            raise BadRequest("the address is not valid") from None
        head = self.head
        head.method = self._parser.get_method().decode("ascii")
        path = (address.path or b"").decode("latin-1")
        head.path = unquote(path) if "%" in path else path
        head.query = address.query or b""

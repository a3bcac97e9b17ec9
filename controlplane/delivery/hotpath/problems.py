"""Error answers of the config API: RFC 9457 problem details."""

from __future__ import annotations

import random
from collections.abc import Sequence

import orjson

Headers = tuple[tuple[bytes, bytes], ...]

TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    408: "Request timeout",
    409: "Conflict",
    413: "Content too large",
    414: "URI too long",
    415: "Unsupported media type",
    422: "Unprocessable content",
    429: "Too many requests",
    431: "Request header fields too large",
    500: "Internal server error",
    503: "Service unavailable",
}
REASON_PHRASES = {200: "OK", 304: "Not Modified", **TITLES}


class Refusal(Exception):
    """A poll that gets no policy: becomes a problem document.

    `code` is stable and for programs, `detail` is for whoever reads the log of the client.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.headers = tuple(headers)


class Answer:
    """One complete response, not to be written to: many clients are sent the same one.

    `raw` is its head as HTTP/1.1 bytes, without `Date` and the empty line; made when first sent.
    """

    __slots__ = ("_raw", "body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self._raw: bytes | None = None

    @property
    def raw(self) -> bytes:
        """The status line and the headers, as they go over the wire."""
        if self._raw is None:
            phrase = REASON_PHRASES.get(self.status, "")
            lines = [f"HTTP/1.1 {self.status} {phrase}".encode()]
            lines += [name + b": " + value for name, value in self.headers]
            self._raw = b"\r\n".join(lines) + b"\r\n"
        return self._raw

    def plus(self, *headers: tuple[bytes, bytes]) -> Answer:
        """Return this answer with more headers."""
        return Answer(self.status, (*self.headers, *headers), self.body)


def problem_answer(refusal: Refusal) -> Answer:
    """Render a refusal as `application/problem+json`."""
    document: dict[str, object] = {
        "type": "about:blank",
        "title": TITLES[refusal.status],
        "status": refusal.status,
        "code": refusal.code,
        "detail": refusal.detail,
    }
    if refusal.field is not None:
        document["field"] = refusal.field
    body = orjson.dumps(document)
    return Answer(
        status=refusal.status,
        headers=(
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *refusal.headers,
        ),
        body=body,
    )


def unauthorized(detail: str, *, error: str | None = None) -> Refusal:
    """A 401 with the challenge of RFC 6750; `error` only when a token was presented."""
    challenge = 'Bearer realm="tidegate"'
    if error is not None:
        challenge += f', error="{error}", error_description="{detail}"'
    code = "invalid-token" if error else "unauthorized"
    return Refusal(
        401,
        code,
        detail,
        field="Authorization",
        headers=[(b"www-authenticate", challenge.encode())],
    )


def come_back(status: int, code: str, detail: str, *, after_s: int, spread_s: int = 0) -> Refusal:
    """A 429 or 503 that says in how many seconds to try again, at random up to `spread_s` later.

    Without the spread, all of those that are refused together would return together.
    """
    after_s += random.randint(0, spread_s)  # noqa: S311
    return Refusal(status, code, detail, headers=[(b"retry-after", str(after_s).encode())])

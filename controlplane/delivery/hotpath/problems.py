"""Error answers of the config API: RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    414: "URI too long",
    429: "Too many requests",
    431: "Request header fields too large",
    503: "Service unavailable",
}


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


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete response, before the ASGI messages."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""


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


def come_back(status: int, code: str, detail: str, *, after_s: int) -> Refusal:
    """A 429 or 503 that says in how many seconds to try again."""
    return Refusal(status, code, detail, headers=[(b"retry-after", str(after_s).encode())])

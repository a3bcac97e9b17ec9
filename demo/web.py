"""The smallest web framework that will do: routes, JSON answers, raw ASGI underneath."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as the demo's handlers care."""

    params: Mapping[str, str]
    query: Mapping[str, str]
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler answers."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


class CallFailed(Exception):
    """A dependency did not answer well; `answer` is what our caller should see.

    `was_sent` is False when our own breaker refused the call.
    """

    def __init__(self, answer: Answer, *, was_sent: bool = True) -> None:
        super().__init__(answer.body.get("error"))
        self.answer = answer
        self.was_sent = was_sent


Handler = Callable[[Asked], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """`METHOD /route/{parameter}` and what answers it."""

    method: str
    template: str
    handler: Handler

    @property
    def key(self) -> str:
        """The endpoint's name in policies and metrics."""
        return f"{self.method} {self.template}"


class Application:
    """An ASGI application of a few routes."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._patterns = [(route, _pattern(route.template)) for route in routes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; unknown paths get a 404. Bodies are of no interest."""
        answer = await self._answer(scope)
        body = json.dumps(answer.body).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in answer.headers.items()),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope) -> Answer:
        for route, pattern in self._patterns:
            match = pattern.fullmatch(scope["path"])
            if match is not None and route.method == scope["method"]:
                try:
                    return await route.handler(_asked(scope, match.groupdict()))
                except CallFailed as problem:
                    return problem.answer
        return Answer(404, {"error": "no such path"})


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template)))


def _asked(scope: Scope, params: Mapping[str, str]) -> Asked:
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    headers = dict(scope["headers"])
    return Asked(params, query, headers.get(b"idempotency-key", b"").decode("latin-1"))

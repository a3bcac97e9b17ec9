"""`GET /config/v1/keys`: the public keys that signatures are checked with. No token is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import sha256

import orjson

from controlplane.delivery.domain.keyring import AnnouncedKey, keys_document, next_switch_unix
from controlplane.delivery.hotpath.headers import read_condition
from controlplane.delivery.hotpath.problems import Answer, Headers, Refusal, come_back
from controlplane.delivery.hotpath.requests import Request

PATH = "/config/v1/keys"


class KeysAddress:
    """Answers with the keys that were announced last. `clock` is wall time in Unix seconds."""

    max_body_bytes = 0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._keys: Sequence[AnnouncedKey] | None = None
        self._full: Answer | None = None
        self._not_modified = Answer(304, ())
        self._tag = b""
        self._due_unix = math.inf

    def put(self, keys: Sequence[AnnouncedKey]) -> None:
        """Answer with these keys from now on."""
        self._keys = keys
        self._full = None

    def answer(self, request: Request) -> Answer:
        """Return the JWK set, or 304 when the client has it.

        Raises:
            Refusal: 405, another method; 503, the keys are not loaded yet; 400, a bad condition.
        """
        if request.method not in ("GET", "HEAD"):
            raise Refusal(
                405,
                "method-not-allowed",
                f"{request.method} is not for this address; use GET",
                headers=[(b"allow", b"GET, HEAD")],
            )
        condition = read_condition(request.header(b"if-none-match"))
        full = self._current()
        if condition is not None and condition.matches(self._tag):
            return self._not_modified
        return full

    def _current(self) -> Answer:
        now = self._clock()
        if self._full is None or now >= self._due_unix:
            self._full = self._rendered(now)
        return self._full

    def _rendered(self, now: float) -> Answer:
        if self._keys is None:
            raise come_back(
                503, "not-loaded", "signing keys are not loaded yet", after_s=1, spread_s=2
            )
        body = orjson.dumps(keys_document(self._keys, now))
        self._due_unix = next_switch_unix(self._keys, now)
        self._tag = b'"' + sha256(body).hexdigest()[:32].encode() + b'"'
        shared: Headers = ((b"etag", self._tag), (b"cache-control", b"public, max-age=60"))
        self._not_modified = Answer(304, shared)
        return Answer(
            200,
            (
                (b"content-type", b"application/jwk-set+json"),
                (b"content-length", str(len(body)).encode()),
                *shared,
            ),
            body,
        )

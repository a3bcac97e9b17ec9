"""`GET /config/v1/{environment}/{service}` as one ASGI callable."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import sha256
from typing import Any

from controlplane.delivery.domain.etags import Condition
from controlplane.delivery.hotpath.auth import MAX_TOKEN_BYTES, Grant, RateLimit, TokenTable
from controlplane.delivery.hotpath.headers import (
    Report,
    accepts_json,
    read_condition,
    read_fields,
    read_report,
    read_wait_s,
)
from controlplane.delivery.hotpath.longpoll import Ended, Receive, hold
from controlplane.delivery.hotpath.problems import (
    Answer,
    Refusal,
    come_back,
    problem_answer,
    unauthorized,
)
from controlplane.delivery.hotpath.reports import REFRESH_S, ReportBuffer
from controlplane.delivery.hotpath.store import Headers, Slot, SnapshotStore

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_URI_BYTES = 512
MAX_USUAL_HEADERS = 16
_PATH = re.compile(r"/config/v1/([A-Za-z0-9_-]{1,63})/([A-Za-z0-9_-]{1,63})")
_JSON_ACCEPTS = frozenset({None, b"*/*", b"application/json"})
_PRESENT = b"Bearer "


@dataclass(slots=True)
class Poll:
    """One request that passed every check."""

    slot: Slot
    digest: bytes
    condition: Condition | None
    wait_s: int
    report: Report | None
    raw_report: tuple[bytes | None, bytes | None]


class ConfigApp:
    """The config API, answered from memory.

    `clock` is wall time in Unix seconds. `sends_date` is for where no server adds the `Date`
    header by which clients correct their clocks; uvicorn and granian do.
    """

    def __init__(
        self,
        store: SnapshotStore,
        tokens: TokenTable,
        reports: ReportBuffer,
        *,
        clock: Callable[[], float] = time.time,
        max_parked: int = 10_000,
        limit: RateLimit = RateLimit(),  # noqa: B008 (frozen)
        sends_date: bool = False,
    ) -> None:
        self._store = store
        self._find_slot = store.find_by_path
        self._tokens = tokens
        self._reports = reports
        self._clock = clock
        self._limit = limit
        self._interval_s, self._burst_s = limit.interval_s, limit.burst_s
        self._sends_date = sends_date
        self._max_parked = max_parked
        # One service must not take every place: a fifth stays for the others.
        self._max_parked_per_service = max(1, max_parked * 4 // 5)
        self._is_draining = False
        self.parked_count = 0
        self.unchanged_count = 0
        self.answer_counts: dict[int, int] = {}

    @property
    def ready(self) -> bool:
        """True once snapshots are loaded and until draining begins."""
        return self._store.is_loaded and not self._is_draining

    def drain(self) -> None:
        """Answer every parked poll now and hold no more; `ready` is False from now on."""
        self._is_draining = True
        self._store.wake_all()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request under `/config/`."""
        headers = self._unchanged_headers(scope)
        if headers is not None:
            self.unchanged_count += 1
            # The messages are new and the headers a tuple, so that no middleware around this
            # application can write what belongs to one request into the answers of the next.
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            answer = await self._answer(scope, receive)
        except Refusal as refusal:
            answer = problem_answer(refusal)
        if answer is not None:
            await self._send(answer, scope["method"], send)

    def _unchanged_headers(self, scope: Scope) -> Headers | None:
        """Return the headers of a 304 when a poll is as polls nearly always are, else None.

        Exactly what `_check` decides, for requests with nothing unusual in them: the known
        etag, one of each header, a valid token, nothing new to report, nothing to wait for.
        Anything else returns None and is looked at in full. A test compares the two. (The size of
        headers nobody reads is not looked at: the server has read them already.)
        """
        slot = self._find_slot(scope["path"])
        if slot is None or scope["method"] != "GET" or scope["query_string"]:
            return None
        headers = scope["headers"]
        fields = dict(headers)
        try:
            authorization = fields[b"authorization"]
            if (
                fields[b"if-none-match"] != slot.tag
                or len(fields) != len(headers)
                or b"prefer" in fields
                or fields.get(b"accept") not in _JSON_ACCEPTS
                or authorization[:7] != _PRESENT
                or len(headers) > MAX_USUAL_HEADERS
            ):
                return None
            seen = slot.seen[fields.get(b"tidegate-instance")]
        except KeyError:
            return None
        grant = self._tokens.find_by_digest(sha256(authorization[7:]).digest())
        now = self._clock()
        if (
            grant is None
            or grant.key != slot.key
            or now >= grant.expires_at_unix
            or now >= slot.due_unix
            or now - seen.noted_at_unix >= REFRESH_S
            or seen.applied != fields.get(b"tidegate-applied")
            or seen.rejected != fields.get(b"tidegate-rejected")
            or self._store.behind_since_unix is not None
            or self._sends_date
        ):
            return None
        # As Grant.take does, for a token with something left.
        full_at = grant.full_at_unix
        if full_at < now:
            full_at = now
        if full_at - now > self._burst_s:
            return None
        grant.full_at_unix = full_at + self._interval_s
        return slot.not_modified

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | None:
        """Return the full answer; None when the client left before there was one."""
        poll = self._check(scope)
        waited_s = 0
        now = self._clock()
        if now >= poll.slot.due_unix:
            self._store.advance()
        if poll.report is not None:
            self._reports.note(
                poll.slot, poll.report, poll.raw_report, is_fetching=False, now_unix=now
            )
        if poll.wait_s and not self._is_changed(poll):
            waited_s = poll.wait_s
            if await self._park(poll, receive) is Ended.GONE:
                return None
            self._check_still_valid(poll)
        if self._is_stale(poll):
            if poll.report is not None:
                self._reports.note(
                    poll.slot,
                    poll.report,
                    poll.raw_report,
                    is_fetching=True,
                    now_unix=self._clock(),
                )
            return Answer(200, self._headers(poll.slot, waited_s, 200), poll.slot.step.body)
        return Answer(304, self._headers(poll.slot, waited_s, 304))

    async def _park(self, poll: Poll, receive: Receive) -> Ended:
        if (
            self.parked_count >= self._max_parked
            or len(poll.slot.waiters) >= self._max_parked_per_service
        ):
            raise come_back(
                503,
                "too-many-waiting",
                "no more polls can wait here; poll without Prefer: wait, or come back",
                # Spread, or all of those refused together would return together.
                after_s=random.randint(1, 10),  # noqa: S311
            )
        self.parked_count += 1
        try:
            return await hold(poll.slot, lambda: self._is_changed(poll), poll.wait_s, receive)
        finally:
            self.parked_count -= 1

    def _is_changed(self, poll: Poll) -> bool:
        if self._clock() >= poll.slot.due_unix:
            self._store.advance()
        is_revoked = self._tokens.find_by_digest(poll.digest) is None
        return is_revoked or self._is_draining or self._is_stale(poll)

    def _is_stale(self, poll: Poll) -> bool:
        return poll.condition is None or not poll.slot.is_met_by(poll.condition, self._clock())

    def _check(self, scope: Scope) -> Poll:
        """Return the poll that `scope` asks for.

        Raises:
            Refusal: every error answer of this API.
        """
        _check_request_line(scope)
        fields = read_fields(scope["headers"])
        if not self._store.is_loaded:
            raise come_back(
                503,
                "not-loaded",
                "policies are not loaded yet",
                after_s=random.randint(1, 3),  # noqa: S311
            )
        match = _PATH.fullmatch(scope["path"])
        if match is None:
            raise Refusal(
                404, "not-found", "expected /config/v1/{environment}/{service}, both names"
            )
        digest, grant = self._authenticate(fields.get(b"authorization"))
        slot = self._authorize(grant, match[1], match[2])
        if not accepts_json(fields.get(b"accept")):
            raise Refusal(
                406, "not-acceptable", "this answers application/json only", field="Accept"
            )
        return Poll(
            slot=slot,
            digest=digest,
            condition=read_condition(fields.get(b"if-none-match")),
            wait_s=read_wait_s(fields.get(b"prefer")),
            report=read_report(fields),
            raw_report=(fields.get(b"tidegate-applied"), fields.get(b"tidegate-rejected")),
        )

    def _authenticate(self, authorization: bytes | None) -> tuple[bytes, Grant]:
        if authorization is None:
            raise unauthorized("a service token is needed: Authorization: Bearer tgs_...")
        scheme, _, token = authorization.partition(b" ")
        token = token.strip(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > MAX_TOKEN_BYTES:
            raise unauthorized("expected Authorization: Bearer tgs_...")
        digest = sha256(token).digest()
        grant = self._tokens.find_by_digest(digest)
        now = self._clock()
        if grant is None:
            raise unauthorized("the token is unknown or revoked", error="invalid_token")
        if now >= grant.expires_at_unix:
            raise unauthorized("the token has expired", error="invalid_token")
        after_s = grant.take(now, self._limit)
        if after_s > 0.0:
            raise come_back(
                429,
                "too-many-requests",
                f"this token may make {self._limit.per_s:g} requests per second",
                after_s=max(1, math.ceil(after_s)),
            )
        return digest, grant

    def _authorize(self, grant: Grant, environment: str, service: str) -> Slot:
        if not self._store.knows(environment):
            raise Refusal(404, "unknown-environment", f"no environment is named {environment}")
        if grant.key != (environment, service):
            raise Refusal(
                403,
                "wrong-scope",
                f"this token is for {grant.key[1]} in {grant.key[0]} only",
                field="Authorization",
            )
        slot = self._store.find_slot(environment, service)
        if slot is None:
            raise Refusal(404, "not-published", f"{environment} has no fleet default yet")
        return slot

    def _check_still_valid(self, poll: Poll) -> None:
        grant = self._tokens.find_by_digest(poll.digest)
        if grant is None or self._clock() >= grant.expires_at_unix:
            raise unauthorized("the token was revoked or has expired", error="invalid_token")

    def _headers(self, slot: Slot, waited_s: int, status: int) -> Headers:
        headers = slot.not_modified
        if status == 200:
            headers = (
                (b"content-type", b"application/json"),
                (b"content-length", str(len(slot.step.body)).encode()),
                *headers,
            )
        if waited_s:
            headers = (*headers, (b"preference-applied", b"wait=%d" % waited_s))
        behind_since = self._store.behind_since_unix
        if behind_since is not None:
            age_s = max(0, int(self._clock() - behind_since))
            headers = (
                *headers,
                (b"age", str(age_s).encode()),
                (b"warning", b'110 tidegate "Response is Stale"'),
            )
        return headers

    async def _send(self, answer: Answer, method: str, send: Send) -> None:
        self.answer_counts[answer.status] = self.answer_counts.get(answer.status, 0) + 1
        headers = answer.headers
        if self._sends_date:
            date = formatdate(self._clock(), usegmt=True).encode()
            headers = (*headers, (b"date", date))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if method == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})


def _check_request_line(scope: Scope) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        raise Refusal(
            405,
            "method-not-allowed",
            f"{scope['method']} is not for this address; use GET",
            headers=[(b"allow", b"GET, HEAD")],
        )
    if len(scope["path"]) + len(scope["query_string"]) > MAX_URI_BYTES:
        raise Refusal(414, "uri-too-long", f"an address holds at most {MAX_URI_BYTES} bytes")

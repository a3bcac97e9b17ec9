"""`GET /config/v1/{environment}/{service}`: what a service's policy is, and what comes after it."""

from __future__ import annotations

import asyncio
import math
import random
import re

from controlplane.delivery.hotpath.auth import check_still_valid, read_digest, spend
from controlplane.delivery.hotpath.gate import Gate
from controlplane.delivery.hotpath.headers import read_fields
from controlplane.delivery.hotpath.lanes import Lane
from controlplane.delivery.hotpath.longpoll import HeldPoll
from controlplane.delivery.hotpath.polls import Poll, check_request_line, read_poll
from controlplane.delivery.hotpath.problems import (
    Answer,
    Headers,
    Refusal,
    come_back,
    problem_answer,
)
from controlplane.delivery.hotpath.reports import REFRESH_S, ReportBuffer
from controlplane.delivery.hotpath.requests import Client, Held, Request
from controlplane.delivery.hotpath.streams import Pulse, Stream

_PATH = re.compile(r"/config/v1/([A-Za-z0-9_-]{1,63})/([A-Za-z0-9_-]{1,63})")


class ConfigApp:
    """The config API, answered from memory; whatever server speaks to the clients.

    At most `max_held` polls and streams wait here at once, of one service four fifths of that.
    """

    def __init__(self, gate: Gate, reports: ReportBuffer, *, max_held: int = 10_000) -> None:
        self._gate = gate
        self._store = gate.store
        self._tokens = gate.tokens
        self._clock = gate.clock
        self._limit = gate.limit
        self._interval_s, self._burst_s = gate.limit.interval_s, gate.limit.burst_s
        self._reports = reports
        self.hold_at_most(max_held)
        self._is_draining = False
        self._pulse = Pulse()
        self.held_count = 0
        self.unchanged_count = 0

    @property
    def is_ready(self) -> bool:
        """True once snapshots are loaded and until draining begins."""
        return self._store.is_loaded and not self._is_draining

    def knows(self, authorization: bytes | None) -> bool:
        """Say whether this is a token that is valid now; nothing of it is spent."""
        try:
            check_still_valid(self._tokens, read_digest(authorization), now_unix=self._clock())
        except Refusal:
            return False
        return True

    def hold_at_most(self, max_held: int) -> None:
        """Let so many polls and streams wait from now on; of one service four fifths of that."""
        self._max_held = max_held
        # One service must not take every place: a fifth stays for the others.
        self._max_held_per_service = max(1, max_held * 4 // 5)

    @property
    def max_held(self) -> int:
        """How many polls and streams may wait here at once."""
        return self._max_held

    @property
    def is_waking(self) -> bool:
        """True while some of those whom a publication woke have not been answered yet."""
        return self._store.is_waking

    def drain(self, *, over_s: float = 0.0) -> None:
        """Answer every held poll, end every stream, and hold no more; harmless to repeat.

        They are let go at random moments within `over_s`, so that the node that they come to
        next is not met by all of them at once.
        """
        self._is_draining = True
        if not over_s:
            self._store.wake_all()
            return
        loop = asyncio.get_running_loop()
        for waiter in self._store.list_waiters():
            loop.call_later(over_s * random.random(), waiter.look)  # noqa: S311

    def read(self, request: Request) -> Poll:
        """Return the poll that a request asks for; it spends one request of its token.

        Raises:
            Refusal: every error answer of this API.
        """
        check_request_line(request)
        fields = read_fields(request.headers)
        if not self._store.is_loaded:
            raise come_back(503, "not-loaded", "policies are not loaded yet", after_s=1, spread_s=2)
        match = _PATH.fullmatch(request.path)
        if match is None:
            raise Refusal(
                404, "not-found", "expected /config/v1/{environment}/{service}, both names"
            )
        digest, grant = self._gate.enter(fields.get(b"authorization"))
        slot = self._gate.open(grant, match[1], match[2])
        return read_poll(request, fields, slot, digest)

    def unchanged(self, poll: Poll) -> Answer | None:
        """Return the 304 when a repeated poll is as polls nearly always are, else None.

        Exactly what `respond_again` decides, for a poll with nothing unusual in it: the known
        etag, a valid token, nothing new to report. A test compares the two.
        """
        slot = poll.slot
        report = poll.report
        seen = slot.seen.get(None if report is None else report.instance)
        if seen is None or poll.tag != seen.lane.tag or not poll.may_be_quick:
            return None
        grant = self._tokens.find_by_digest(poll.digest)
        now = self._clock()
        if (
            grant is None
            or grant.key != slot.key
            or now >= grant.expires_at_unix
            or now >= slot.due_unix
            or now - seen.noted_at_unix >= REFRESH_S
            or now < seen.noted_at_unix < math.inf  # the clock was set back
            or (seen.applied, seen.rejected) != poll.raw_report
            or self._store.behind_since_unix is not None
        ):
            return None
        # As Grant.take does, for a token with something left.
        full_at = grant.full_at_unix
        if full_at < now:
            full_at = now
        if full_at - now > self._burst_s:
            return None
        grant.full_at_unix = full_at + self._interval_s
        self.unchanged_count += 1
        return seen.lane.not_modified

    def respond(self, poll: Poll, client: Client) -> Answer | Held:
        """Return the answer to a poll that was just read, or hold it for `client`."""
        now = self._clock()
        if now >= poll.slot.due_unix:
            self._store.advance()
        self._note(poll, is_fetching=False)
        self._note_claim(poll)
        if poll.is_stream:
            return self._open_stream(poll, client)
        if poll.wait_s and self.final_answer(poll) is None:
            self._take_place(poll)
            return HeldPoll(self, poll, client)
        return self._answer(poll, now, waited_s=0)

    def respond_again(self, poll: Poll, client: Client) -> Answer | Held:
        """Return the answer to the same request, sent once more on the same connection.

        Raises:
            Refusal: its token is no longer valid, or used too often.
        """
        spend(self._tokens, poll.digest, now_unix=self._clock(), limit=self._limit)
        return self.respond(poll, client)

    # --- what held polls and streams ask -----------------------------------------------------

    def final_answer(self, poll: Poll) -> Answer | None:
        """Return the answer that ends a wait; None while there is nothing new."""
        now = self._clock()
        if now >= poll.slot.due_unix:
            self._store.advance()
        try:
            check_still_valid(self._tokens, poll.digest, now_unix=now)
        except Refusal as refusal:
            return problem_answer(refusal)
        if self._is_draining or self._is_stale(poll, self._lane(poll), now):
            return self._answer(poll, now, waited_s=poll.wait_s)
        return None

    def expired_answer(self, poll: Poll) -> Answer:
        """Return the answer when the time is up."""
        return self.final_answer(poll) or self._answer(poll, self._clock(), waited_s=poll.wait_s)

    def leave(self, poll: Poll) -> None:
        """Note that a poll or stream is held no longer."""
        self.held_count -= 1
        poll.slot.parked_count -= 1

    def reason_to_end(self, poll: Poll) -> str | None:
        """Return why a stream has to end; None when it may go on."""
        if self._is_draining:
            return "draining"
        try:
            check_still_valid(self._tokens, poll.digest, now_unix=self._clock())
        except Refusal:
            return "revoked"
        return None

    def event_of(self, lane: Lane) -> bytes:
        """Return the event that carries what a lane serves now."""
        return lane.event(self._store.sign)

    def note_stream(self, poll: Poll, *, is_fetching: bool) -> None:
        """Note that the instance at the other end of a stream is there.

        What it enforced when it opened the stream is not said again: its polls know better.
        """
        seen = poll.slot.seen.get(poll.instance)
        raw = poll.raw_report if seen is None else (seen.applied, seen.rejected)
        self._note(poll, is_fetching=is_fetching, raw=raw)

    def valid_for_s(self, poll: Poll) -> float:
        """Return for how many seconds the token of a poll is still valid; infinity for ever."""
        grant = self._tokens.find_by_digest(poll.digest)
        return 0.0 if grant is None else max(0.0, grant.expires_at_unix - self._clock())

    def age_s(self) -> int | None:
        """Return how long the database has not confirmed the snapshots; None while it does."""
        behind_since = self._store.behind_since_unix
        return None if behind_since is None else max(0, int(self._clock() - behind_since))

    def has_newest(self, poll: Poll, lane: Lane) -> bool:
        """Say whether a client had what `lane` serves, or later, when it opened its stream."""
        return not self._is_stale(poll, lane, self._clock())

    # -----------------------------------------------------------------------------------------

    def _open_stream(self, poll: Poll, client: Client) -> Answer | Held:
        if self._is_draining:
            raise come_back(503, "draining", "this node is leaving", after_s=1, spread_s=2)
        self._take_place(poll)
        return Stream(self, self._pulse, poll, client, Answer(200, self._staleness()))

    def _take_place(self, poll: Poll) -> None:
        if (
            self.held_count >= self._max_held
            or poll.slot.parked_count >= self._max_held_per_service
        ):
            raise come_back(
                503,
                "too-many-waiting",
                "no more polls or streams can wait here; poll without Prefer: wait, or come back",
                after_s=1,
                spread_s=9,
            )
        self.held_count += 1
        poll.slot.parked_count += 1

    def _answer(self, poll: Poll, now: float, *, waited_s: int) -> Answer:
        lane = self._lane(poll)
        if self._is_stale(poll, lane, now):
            self._note(poll, is_fetching=not poll.is_head)
            answer = lane.full(poll.coding, self._store.sign, waited_s=waited_s)
        else:
            answer = lane.unchanged(waited_s)
        if self._store.behind_since_unix is None:
            return answer
        return answer.plus(*self._staleness())

    def _staleness(self) -> Headers:
        age_s = self.age_s()
        if age_s is None:
            return ()
        return (
            (b"age", str(age_s).encode()),
            (b"warning", b'110 tidegate "Response is Stale"'),
        )

    def _lane(self, poll: Poll) -> Lane:
        return poll.slot.lane(poll.instance)

    def _is_stale(self, poll: Poll, lane: Lane, now: float) -> bool:
        return poll.condition is None or not lane.is_met_by(poll.condition, now)

    def _note_claim(self, poll: Poll) -> None:
        """Remember when a client was served more elsewhere than this node knows."""
        lane = self._lane(poll)
        if poll.tag != lane.tag:
            known = lane.snapshot.sequence
            claimed = poll.last_event_id or 0
            if poll.condition is not None:
                claimed = max(claimed, poll.condition.sequence_above(known))
            if claimed > known:
                self._store.note_claim(claimed, poll.slot.key)

    def _note(
        self,
        poll: Poll,
        *,
        is_fetching: bool,
        raw: tuple[bytes | None, bytes | None] | None = None,
    ) -> None:
        if poll.report is not None:
            self._reports.note(
                poll.slot,
                poll.report,
                poll.raw_report if raw is None else raw,
                is_fetching=is_fetching,
                now_unix=self._clock(),
            )

"""Following the control plane: polls and streams, one after the other, for as long as it takes.

Whatever brings policies, short polls speak for this process: they say what it enforces and what
it rejected, until they got through, and once a minute they look behind an open stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from tidegate.adoption import Adoption, Unreadable
from tidegate.clock import Clock
from tidegate.control_plane import Answer, ControlPlane, Said, StreamUnsupported, Unavailable
from tidegate.identity import Identity
from tidegate.in_force import InForce
from tidegate.ladder import ConfigTransport, Ladder
from tidegate.publication import Delivery, PollAdvice
from tidegate.sse import Event
from tidegate.streams import HEARTBEAT_S, PolicyStream, StreamEnded

log = logging.getLogger("tidegate")

_FIRST_BACKOFF_S = 0.5
_SHORTEST_LEAVE_S = 0.5  # a server that always says goodbye at once is not to be hammered
_LONGEST_RETRY_AFTER_S = 300.0  # a server's mistake must not strand its clients
_UNCHANGED_S = 2.0  # spread of the next poll after a full answer that changed nothing
_HURRIES = 3
_LOOK_BEHIND_S = 60.0  # a full poll stands behind every stream, about this often
# How long a stream may take to bring what a poll beside it brought: its node may be behind the
# one that answered the poll, by the 2 s after which every node looks into the database.
_CATCH_UP_S = 5.0
_PROVEN_S = 3.0 * HEARTBEAT_S  # a stream that lived for this long works
_KEYS_AT_MOST_EVERY_S = 30.0
_KEYS_REFRESHED_S = 3600.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Time, waiting and luck, as a client takes them from its surroundings."""

    monotonic: Clock
    sleep: Callable[[float], Awaitable[object]]
    uniform: Callable[[], float]


class Following:
    """Keeps an `Adoption` fed.

    Args:
        identity: names this process in every request.
        wait_s: how long a long-poll is held.
    """

    def __init__(
        self,
        adoption: Adoption,
        in_force: InForce,
        control_plane: ControlPlane,
        ladder: Ladder,
        pace: Pace,
        *,
        identity: Identity,
        wait_s: float,
    ) -> None:
        self._adoption = adoption
        self._in_force = in_force
        self._control_plane = control_plane
        self._ladder = ladder
        self._pace = pace
        self._identity = identity
        self._wait_s = wait_s
        self._failures = 0
        self._setbacks = 0
        self._told = ""  # why the last request failed
        self._hurries = 0
        self._keys_allowed_at_s = 0.0
        self._keys_due_at_s = 0.0
        self.begin()

    @property
    def transport(self) -> ConfigTransport:
        """How policies come at present."""
        return self._ladder.transport

    def begin(self) -> None:
        """Get ready for the present event loop, as if nothing had been said before."""
        self._said: Said | None = None  # what the control plane heard last
        self._is_connected = False
        self._has_news = asyncio.Event()
        self._has_event = asyncio.Event()
        self.answered = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                pause_s = await self._follow_once()
            except Exception:
                log.exception("following the control plane failed in a way that nobody foresaw")
                pause_s = self._advice.interval_s
            self.answered.set()
            await self._pace.sleep(pause_s)

    async def poll_once(self) -> float:
        """Ask once and obey; returns the seconds to wait before the next request.

        None (0) when the next one has news for the server, or when this one was held.
        """
        is_held = self._is_connected and self._ladder.transport is ConfigTransport.LONG_POLL
        if is_held and self._adoption.unstored is not None and self._said != self._say():
            is_held = False  # what it has to say first is that the policy is enforced
        return await self._poll(self._wait_s if is_held else 0.0)

    def notice_news(self) -> None:
        """Let what stands behind a stream look whether there is something to say."""
        self._has_news.set()

    async def _follow_once(self) -> float:
        transport = self._ladder.choose()
        if transport is ConfigTransport.STREAM and self._is_connected and self._said == self._say():
            return await self._follow_stream()
        return await self.poll_once()

    async def _poll(self, wait_s: float) -> float:
        said = self._say()
        try:
            answer = await self._control_plane.poll(self._identity.name, said, wait_s)
        except Unavailable as problem:
            if wait_s and not problem.is_unasked:
                self._ladder.suspect(f"a held poll failed: {problem}")
                self._setbacks += 1
            else:
                self._ladder.unanswered()
            return self._stand_alone(problem)
        was_connected, self._is_connected, self._failures = self._is_connected, True, 0
        self._said = said
        self._adoption.heard()
        if answer.status == 200:
            await self._take(Delivery(answer.body, answer.etag, answer.signature))
        else:
            self._adoption.unchanged(answer.etag)
            await self._adoption.store_again()
        self._adoption.confirm()
        await self._adoption.note_confirmation()
        self._judge_poll(answer, wait_s)
        await self._refresh_keys()
        if answer.was_held:
            self._hurries = 0
            return 0.0
        if self._say() != said or not was_connected:
            return self._hurry_s()
        self._hurries = 0
        return self._idle_s(answer)

    def _judge_poll(self, answer: Answer, wait_s: float) -> None:
        if not wait_s:
            self._ladder.answered()
        elif answer.was_held:
            self._ladder.works()
            self._setbacks = 0
        elif answer.status == 304:
            self._ladder.strike("a poll that should be held was answered at once")

    async def _follow_stream(self) -> float:
        resume = self._adoption.sequence_to_resume
        opened_s = self._pace.monotonic()
        try:
            opening = self._control_plane.stream(self._identity.name, self._say(), resume)
            async with opening as stream:
                opened_s = self._pace.monotonic()
                self._adoption.heard()
                return await self._stay_on(stream)
        except StreamUnsupported as problem:
            self._ladder.step_down(str(problem))
            self._is_connected = False  # where only streams are allowed, polls go between
            self._setbacks += 1
            return self._setback_s()
        except Unavailable as problem:
            reason = f"no stream could be opened: {problem}"
            if not problem.is_unasked:
                self._ladder.suspect(reason, is_grave=problem.is_silence)
                self._setbacks += 1
            return self._stand_alone(problem)
        except StreamEnded as problem:
            return self._lose_stream(problem, self._pace.monotonic() - opened_s)

    async def _stay_on(self, stream: PolicyStream) -> float:
        """Read until the stream ends, with polls standing behind it; returns the pause after it.

        Raises:
            StreamEnded: the server did not say goodbye.
        """
        reading = asyncio.create_task(self._read(stream), name="tidegate-stream")
        behind = asyncio.create_task(self._stand_behind(), name="tidegate-behind-stream")
        try:
            done, _ = await asyncio.wait((reading, behind), return_when=asyncio.FIRST_COMPLETED)
            return await (reading if reading in done else behind)
        finally:
            reading.cancel()
            behind.cancel()
            await asyncio.gather(reading, behind, return_exceptions=True)

    async def _read(self, stream: PolicyStream) -> float:
        opened_s = self._pace.monotonic()
        while True:
            events = await stream.read()
            self._adoption.confirm()
            if self._pace.monotonic() - opened_s >= _PROVEN_S:
                self._ladder.works()
                self._setbacks = 0
            for event in events:
                if event.name == "reconnect":
                    return self._leave_s(event, stream.retry_s)
                if event.name == "config":
                    await self._take_event(event)

    async def _take_event(self, event: Event) -> None:
        try:
            await self._take(Delivery(event.data, None, event.signature))
        except Unreadable as problem:
            log.warning("the stream brought what cannot be believed, polling for it: %s", problem)
            self._said = None
        self._has_event.set()
        self._has_news.set()

    async def _stand_behind(self) -> float:
        """Say what changed, at once; look behind the stream about once a minute.

        Returns the pause after a stream that did not bring what a poll brought.
        """
        pause_s = self._look_behind_s()
        while True:
            # Not wait_for: on Python 3.11 it may swallow a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._has_news.wait()
            has_news = self._has_news.is_set()
            self._has_news.clear()
            if has_news and self._said == self._say():
                continue
            before = self._in_force.sequence
            self._has_event.clear()
            pause_s = await self._poll(0.0)
            if self._said == self._say() and not self._failures:
                pause_s = self._look_behind_s()
            if self._in_force.sequence != before and not await self._stream_catches_up():
                self._ladder.strike("a poll brought a policy that the stream did not")
                self._setbacks += 1
                return self._setback_s()

    async def _stream_catches_up(self) -> bool:
        """Whether the stream brings an event soon after a poll brought a policy."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CATCH_UP_S):
                await self._has_event.wait()
        return self._has_event.is_set()

    def _lose_stream(self, problem: StreamEnded, lived_s: float) -> float:
        log.info("the stream ended after %.0f s: %s", lived_s, problem)
        self._is_connected = False  # a short poll finds out what is going on
        if lived_s < _PROVEN_S:
            self._ladder.suspect(f"a stream ended after {lived_s:.0f} s: {problem}")
            self._setbacks += 1
        return self._setback_s()

    def _leave_s(self, event: Event, retry_s: float | None) -> float:
        """The pause that the server asks for before the next stream, and our own spread on it.

        A server that only rotates its streams ends few at a time, and spreads those itself.
        """
        reason, asked_s = _farewell(event, retry_s)
        if reason == "rotate" and asked_s >= _SHORTEST_LEAVE_S:
            return asked_s
        asked_s = max(asked_s, _SHORTEST_LEAVE_S)
        return asked_s + min(asked_s, self._advice.interval_s) * self._pace.uniform()

    async def _take(self, delivery: Delivery) -> None:
        unknown = self._adoption.unknown_key(delivery)
        if unknown is not None:
            log.info("a policy is signed by key %s, which is not known yet", unknown)
            await self._fetch_keys()
        await self._adoption.take(delivery)

    async def _refresh_keys(self) -> None:
        """Look now and then whether a key that was adopted has been withdrawn."""
        if self._adoption.has_adopted_keys and self._pace.monotonic() >= self._keys_due_at_s:
            await self._fetch_keys()

    async def _fetch_keys(self) -> None:
        """Ask for the list of keys, unless that was tried just now."""
        now_s = self._pace.monotonic()
        if now_s < self._keys_allowed_at_s:
            return
        self._keys_allowed_at_s = now_s + _KEYS_AT_MOST_EVERY_S * (1.0 + self._pace.uniform())
        try:
            document = await self._control_plane.keys()
        except Unavailable as problem:
            log.warning("the list of signing keys is not to be had: %s", problem)
            asked_s = min(problem.retry_after_s or 0.0, _LONGEST_RETRY_AFTER_S)
            self._keys_allowed_at_s = max(self._keys_allowed_at_s, now_s + asked_s)
            return
        self._keys_due_at_s = now_s + _KEYS_REFRESHED_S * (0.5 + self._pace.uniform())
        await self._adoption.learn_keys(document)

    def _say(self) -> Said:
        adoption, rejection = self._adoption, self._adoption.rejection
        said = Said(adoption.etag, self._in_force.etag, unstored=adoption.unstored)
        if rejection is None:
            return said
        return replace(
            said, rejected=rejection.etag, reason=rejection.reason, is_final=rejection.is_final
        )

    @property
    def _advice(self) -> PollAdvice:
        publication = self._in_force.publication
        return PollAdvice() if publication is None else publication.poll

    def _stand_alone(self, problem: Unavailable) -> float:
        """The wait after a failed request: exponential with full jitter, or what is asked for."""
        is_other = problem.is_unasked and str(problem) != self._told
        if self._is_connected or not self._failures or is_other:
            what = "is not asked" if problem.is_unasked else "gives no answer"
            log.warning("the control plane %s, the policy stays: %s", what, problem)
        self._told = str(problem)
        self._is_connected = False
        self._failures += 1
        uniform, interval_s = self._pace.uniform(), self._advice.interval_s
        if problem.is_refusal:
            pause_s = interval_s * (0.5 + uniform)
        else:
            pause_s = self._bound_s(max(self._failures, self._setbacks)) * uniform
        if problem.retry_after_s is not None:
            asked_s = min(problem.retry_after_s, _LONGEST_RETRY_AFTER_S)
            pause_s = max(pause_s, asked_s + min(asked_s, interval_s) * uniform)
        return pause_s

    def _setback_s(self) -> float:
        """The pause after a stream that failed, with full jitter: longer with each in a row."""
        return self._bound_s(max(1, self._setbacks)) * self._pace.uniform()

    def _bound_s(self, failures: int) -> float:
        doublings = min(failures - 1, 10)
        return min(_FIRST_BACKOFF_S * 2.0**doublings, self._advice.interval_s)

    def _hurry_s(self) -> float:
        """No pause before saying what is new; but two nodes that disagree must not race us."""
        self._hurries += 1
        return 0.0 if self._hurries <= _HURRIES else _UNCHANGED_S * self._pace.uniform()

    def _look_behind_s(self) -> float:
        return _LOOK_BEHIND_S * (0.5 + self._pace.uniform())

    def _idle_s(self, answer: Answer) -> float:
        """The wait after an answer that came at once and changed nothing.

        Either the server does not hold polls, or it is leaving and woke everybody: spread out.
        Or it brought once more what no disk takes: no disk will within seconds either.
        """
        uniform, advice = self._pace.uniform(), self._advice
        transport = self._ladder.transport
        if transport is ConfigTransport.STREAM:
            return 0.0
        rejection = self._adoption.rejection
        if self._adoption.unstored is not None:
            return self._interval_s()
        if answer.status == 200 and (rejection is None or rejection.is_final):
            return _UNCHANGED_S * uniform
        if transport is ConfigTransport.LONG_POLL:
            return advice.interval_s * uniform
        return self._interval_s()

    def _interval_s(self) -> float:
        """The server's interval, with the jitter that it asks for."""
        advice = self._advice
        return advice.interval_s * (1.0 + advice.jitter_ratio * (2.0 * self._pace.uniform() - 1.0))


def _farewell(event: Event, retry_s: float | None) -> tuple[object, float]:
    """The reason of a goodbye, and the pause: its `after_ms`, else `retry:`, else a second."""
    try:
        said = json.loads(event.data)
    except (ValueError, RecursionError):
        said = None
    said = said if isinstance(said, dict) else {}
    after_ms = said.get("after_ms")
    if isinstance(after_ms, int | float) and not isinstance(after_ms, bool) and after_ms >= 0:
        return said.get("reason"), min(after_ms, _LONGEST_RETRY_AFTER_S * 1000.0) / 1000.0
    return said.get("reason"), min(1.0 if retry_s is None else retry_s, _LONGEST_RETRY_AFTER_S)

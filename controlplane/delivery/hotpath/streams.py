"""Server-sent events: one connection over which each new policy is sent the moment it is there.

The format is WHATWG HTML's, section 9.2: `event: config`, `id: <sequence>`, comments as
heartbeats, and a reconnection time that the server spreads.
"""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

import structlog

from controlplane.delivery.hotpath.lanes import Lane
from controlplane.delivery.hotpath.polls import Poll
from controlplane.delivery.hotpath.problems import Answer
from controlplane.delivery.hotpath.requests import Client

HEARTBEAT_S = 15
SHORTEST_LIFE_S, LONGEST_LIFE_S = 600.0, 1_200.0
"""A stream is ended at an age between these, so that connections spread anew over the nodes."""

RECONNECT_WITHIN_MS = 5_000
_HEAD = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"vary", b"Authorization, Accept, Accept-Encoding, Prefer"),
    (b"x-accel-buffering", b"no"),  # proxies of nginx's kind then pass each event on at once
)

logger = structlog.get_logger(__name__)


class StreamRules(Protocol):
    """What a stream asks of the config API."""

    def reason_to_end(self, poll: Poll) -> str | None:
        """Return why a stream has to end (`draining`, `revoked`); None when it may go on."""

    def has_newest(self, poll: Poll, lane: Lane) -> bool:
        """Say whether a client had what `lane` serves, or later, when it opened its stream."""

    def event_of(self, lane: Lane) -> bytes:
        """Return the event that carries what a lane serves now."""

    def note_stream(self, poll: Poll, *, is_fetching: bool) -> None:
        """Note that the instance at the other end is there, and whether it is sent a policy."""

    def age_s(self) -> int | None:
        """Return how old the snapshots are, in seconds; None while they are confirmed."""

    def valid_for_s(self, poll: Poll) -> float:
        """Return for how many seconds the token of a stream is still valid."""

    def leave(self, poll: Poll) -> None:
        """Note that a stream is held no longer."""


class Stream:
    """One open stream: sends what is new to its client, and heartbeats in between."""

    __slots__ = (
        "_client", "_is_over", "_poll", "_pulse", "_rules", "_sent_sequence", "_sent_tag",
        "_timer", "instance",
    )  # fmt: skip

    def __init__(
        self, rules: StreamRules, pulse: Pulse, poll: Poll, client: Client, extra: Answer
    ) -> None:
        self._rules = rules
        self._pulse = pulse
        self._poll = poll
        self._client = client
        self._is_over = False
        life_s = random.uniform(SHORTEST_LIFE_S, LONGEST_LIFE_S)  # noqa: S311
        self._timer = asyncio.get_running_loop().call_later(
            min(life_s, rules.valid_for_s(poll)), self.grow_old
        )
        self._sent_sequence = -1 if poll.last_event_id is None else poll.last_event_id
        self._sent_tag: bytes | None = poll.tag
        self.instance = poll.instance
        client.open_stream(Answer(200, (*_HEAD, *extra.headers)))
        pulse.add(self)
        if self._client.write(b"retry: %d\n\n" % _spread_ms()):
            self._wait_on()
            self._send_news(self._lane())
        else:
            self.cancel()

    def look(self) -> None:
        """Send what is new, or end, and wait on."""
        if self._is_over:
            return
        reason = self._rules.reason_to_end(self._poll)
        if reason is not None:
            self.end(reason)
            return
        self._wait_on()
        self._send_news(self._lane())

    def grow_old(self) -> None:
        """End: the token has expired, or the client shall choose a node anew."""
        self.end(self._rules.reason_to_end(self._poll) or "rotate")

    def beat(self) -> None:
        """Send a heartbeat."""
        age_s = self._rules.age_s()
        self._rules.note_stream(self._poll, is_fetching=False)
        if not self._client.write(b":\n\n" if age_s is None else b": stale age=%d\n\n" % age_s):
            self.cancel()

    def end(self, reason: str) -> None:
        """Tell the client to come back, at a time of its own, and end."""
        if self._is_over:
            return
        after_ms = _spread_ms()
        self.cancel()
        self._client.write(
            b'retry: %d\nevent: reconnect\ndata: {"reason": "%s", "after_ms": %d}\n\n'
            % (after_ms, reason.encode(), after_ms)
        )
        self._client.close_stream()

    def cancel(self) -> None:
        """Forget the stream: its client has left."""
        if not self._is_over:
            self._is_over = True
            self._timer.cancel()
            slot = self._poll.slot
            for lane in (slot.stable, slot.canary):
                if lane is not None:
                    lane.waiters.pop(self, None)
            self._pulse.remove(self)
            self._rules.leave(self._poll)

    def _lane(self) -> Lane:
        return self._poll.slot.lane(self.instance)

    def _wait_on(self) -> None:
        self._lane().waiters[self] = None

    def _send_news(self, lane: Lane) -> None:
        sequence = lane.snapshot.sequence
        if sequence < self._sent_sequence or lane.tag == self._sent_tag:
            return  # this node is behind the one that spoke to the client before, or nothing new
        if self._rules.has_newest(self._poll, lane):
            self._sent_sequence, self._sent_tag = sequence, lane.tag
            return  # its If-None-Match says so, as it does for a poll
        if self._sent_tag is None and sequence == self._poll.last_event_id:
            # It has this publication, and switches to its later steps by the clock.
            self._sent_tag = lane.tag
            return
        try:
            event = self._rules.event_of(lane)
            self._rules.note_stream(self._poll, is_fetching=True)
        except Exception:
            # It would not be sent this policy again: it comes back for it.
            logger.exception("stream.failed", service=f"{self._poll.slot.key}")
            self.end("rotate")
            return
        self._sent_sequence, self._sent_tag = sequence, lane.tag
        if not self._client.write(event):
            self.cancel()


class Pulse:
    """Beats for every stream once in HEARTBEAT_S, a fifteenth of them each second."""

    def __init__(self) -> None:
        self._buckets: list[dict[Stream, None]] = [{} for _ in range(HEARTBEAT_S)]
        self._places: dict[Stream, int] = {}
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, stream: Stream) -> None:
        """Beat for `stream` from now on, first after a full interval."""
        place = (self._turn - 1) % HEARTBEAT_S
        self._places[stream] = place
        self._buckets[place][stream] = None
        if self._timer is None:
            self._arm()

    def remove(self, stream: Stream) -> None:
        """Beat for `stream` no longer."""
        place = self._places.pop(stream, None)
        if place is not None:
            del self._buckets[place][stream]

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(1.0, self._beat)

    def _beat(self) -> None:
        self._timer = None
        for stream in list(self._buckets[self._turn]):
            try:
                stream.beat()
            except Exception:
                logger.exception("heartbeat.failed")  # and the others' hearts beat on
        self._turn = (self._turn + 1) % HEARTBEAT_S
        if self._places:
            self._arm()


def _spread_ms() -> int:
    return random.randint(100, RECONNECT_WITHIN_MS)  # noqa: S311

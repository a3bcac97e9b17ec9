"""The delivery plane over HTTP/1.1, without a framework in between.

One protocol object a connection. httptools (llhttp) parses; every request is answered in the call
that brought its last byte, or held. A client that polls sends the same bytes again and again:
those are recognised and not parsed anew. Requests for anything but the delivery plane are handed
over, connection and all, to the protocol of the operator plane.

What a connection may cost is bounded: `limits.Limits` says how much and how long, `Wire.sweep`
enforces it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from controlplane.delivery.hotpath.connections import Wire
from controlplane.delivery.hotpath.heads import BadRequest, Incoming
from controlplane.delivery.hotpath.polls import Poll
from controlplane.delivery.hotpath.problems import Answer, Refusal, problem_answer
from controlplane.delivery.hotpath.requests import Held

_CLOSE = b"connection: close\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_END = b"\r\n\r\n"
PIPELINED_AT_ONCE = 4
"""So many of the requests that a client sent at once are answered in one turn."""


class Transport(Protocol):
    """What this needs of an asyncio transport."""

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes could not be sent yet."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol have the connection."""

    def pause_reading(self) -> None:
        """Read no more for now."""

    def resume_reading(self) -> None:
        """Read again."""

    def is_closing(self) -> bool:
        """Say whether it is closed or about to be."""

    def close(self) -> None:
        """Close when everything is sent."""

    def abort(self) -> None:
        """Close at once."""


class WireConnection(asyncio.Protocol):
    """One connection of the delivery plane, and the client of what it asks."""

    __slots__ = (
        "_buffer", "_held", "_idle_s", "_incoming", "_is_closing", "_is_paused", "_is_postponed",
        "_is_proven", "_is_stuck", "_keeps_alive", "_poll", "_poll_bytes", "_since", "_transport",
        "_was_held", "_wire",
    )  # fmt: skip

    _transport: Transport

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._buffer = b""
        self._poll_bytes: bytes | None = None
        self._poll: Poll | None = None
        self._held: Held | None = None
        self._idle_s = wire.limits.head_s
        self._incoming: Incoming | None = None
        self._keeps_alive = True
        self._is_closing = False
        self._is_proven = False
        self._is_postponed = False
        self._is_paused = False
        self._is_stuck = False
        self._was_held = False
        self._since = wire.tick

    # --- the event loop's side ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it at once when there are too many."""
        self._transport = cast(Transport, transport)
        refusal = self._wire.admit(self)
        if refusal is not None:
            self._refuse(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and what was held for it."""
        self._is_closing = True
        self._wire.forget(self)
        held, self._held = self._held, None
        if held is not None:
            held.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer what is complete now."""
        poll = self._recognised(data)
        if poll is not None:
            self._since = self._wire.tick
            answer = self._wire.unchanged(poll)
            if answer is not None:
                self._transport.write(answer.raw + self._wire.date_line)
            else:
                self._conclude(self._wire.plane.respond_again(poll, self))
            return
        if self._is_closing:
            return
        if not self._buffer and self._incoming is None:
            self._since = self._wire.tick
        is_first = not self._buffer
        self._buffer += data
        if self._is_postponed:
            if len(self._buffer) > self._wire.limits.head_bytes:
                self._pause()
        elif is_first and self._was_held and self._wire.postpone(self):
            self._is_postponed = True
        else:
            self._go_on()

    def go_on(self) -> None:
        """Work through what has arrived, now that it is this connection's turn."""
        self._is_postponed = False
        self._go_on(PIPELINED_AT_ONCE)
        if self._is_paused and not (self._is_postponed or self._is_closing):
            self._is_paused = False
            if not self._is_stuck:
                self._transport.resume_reading()

    def eof_received(self) -> bool:
        """The client sends no more: what is held for it ends as well."""
        return False

    def pause_writing(self) -> None:
        """Ask for nothing more while the client does not take what it has asked for."""
        self._is_stuck = True
        self._since = self._wire.tick
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on: the client has caught up."""
        self._is_stuck = False
        self._since = self._wire.tick
        if self._is_closing:
            return
        if not self._is_paused:
            self._transport.resume_reading()
        if not self._is_postponed:
            self._go_on()

    # --- the plane's side: requests.Client ---------------------------------------------------

    def finish(self, answer: Answer) -> None:
        """Send the answer to the request that was held."""
        self._held = None
        self._was_held = True
        self._wire.plane.count(answer.status)
        self._send(answer)
        if self._buffer and not self._is_postponed:
            self._go_on()

    def open_stream(self, answer: Answer) -> None:
        """Send the head of an answer whose body ends with the connection."""
        self._wire.plane.count(answer.status)
        self._keeps_alive = False
        self._transport.write(answer.raw + _CLOSE + self._wire.date_line)

    def write(self, piece: bytes) -> bool:
        """Send a piece of a stream; False when the client was cut off for not keeping up."""
        if self._is_closing:
            return False
        # What was sent before counts: a policy may itself be larger than a network takes at once.
        if self._transport.get_write_buffer_size() > self._wire.limits.unsent_bytes:
            self._abort("slow reader")
            return False
        self._transport.write(piece)
        return True

    def close_stream(self) -> None:
        """End a stream."""
        self._held = None
        self._close()

    # --- the server's side -------------------------------------------------------------------

    def shutdown(self) -> None:
        """Close as soon as nothing is owed to the client."""
        self._keeps_alive = False
        if self._held is None and self._incoming is None and not self._is_postponed:
            self._close()

    def sweep(self) -> None:
        """End a connection that has taken longer over something than it may."""
        limits, age_s = self._wire.limits, self._wire.tick - self._since
        if self._is_stuck or self._is_closing:
            if age_s > limits.unsent_s:
                self._abort("slow reader")
        elif self._held is not None:
            return
        elif self._incoming is not None:
            if age_s > limits.body_s:
                self._time_out("body")
        elif self._buffer:
            if age_s > limits.head_s:
                self._time_out("head")
        elif age_s > self._idle_s:
            self._wire.note_end("idle")
            self._close()

    @property
    def idle_since(self) -> int | None:
        """The tick of its last answer; None while anything is going on."""
        is_busy = self._held is not None or self._incoming is not None or bool(self._buffer)
        return None if is_busy or self._is_stuck or self._is_closing else self._since

    def evict(self) -> None:
        """Make room for others."""
        self._abort("evicted")

    # -----------------------------------------------------------------------------------------

    def _recognised(self, data: bytes) -> Poll | None:
        """Return the poll that these bytes are, when that is known without parsing them."""
        if self._held is not None or self._buffer or self._incoming is not None:
            return None  # they belong to what came before
        if data == self._poll_bytes:
            return self._poll
        if self._is_proven and self._keeps_alive and not self._is_closing:
            return self._wire.known.get(data)
        return None

    def _go_on(self, at_once: int = 1) -> None:
        """Work through what has arrived, until more is needed or something is held.

        Nothing more is answered while the client does not take what it was answered before. Who
        sends several requests at once has some answered at once, and stands in line for the rest.
        """
        while (
            self._held is None
            and not (self._is_closing or self._is_stuck)
            and (self._buffer or self._incoming)
        ):
            incoming = self._incoming
            try:
                if incoming is None:
                    if not at_once:
                        self._wait_for_turn()
                        return
                    at_once -= 1
                    if not self._begin():
                        return
                    continue
                self._buffer = incoming.feed(self._buffer)
            except BadRequest as problem:
                self._wire.note_end("malformed", problem.detail)
                self._refuse(problem.refusal)
                return
            if not incoming.is_complete:
                return
            self._incoming = None
            self._answer(incoming)
        if self._held is not None and len(self._buffer) > self._wire.limits.head_bytes:
            self._abort("pipelined too much")

    def _wait_for_turn(self) -> None:
        if not self._is_proven and len(self._buffer) > self._wire.limits.head_bytes:
            self._abort("pipelined too much")
            return
        self._is_postponed = True
        self._pause()
        self._wire.take_turns(self)

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _begin(self) -> bool:
        """Start on the next request; False when its head is not complete, or not for us."""
        data = self._buffer.lstrip(b"\r\n")  # empty lines before a request are ignored
        end = data.find(_END)
        if end < 0 or end > self._wire.limits.head_bytes:
            if len(self._buffer) > self._wire.limits.head_bytes:
                self._wire.note_end("head too large")
                self._refuse(_head_too_large(self._wire.limits.head_bytes))
            elif data and not data[:1].isalpha():
                raise BadRequest("it does not begin with a method")
            return False
        head, self._buffer = data[: end + 4], data[end + 4 :]
        if head == self._poll_bytes:
            self._conclude(self._wire.plane.respond_again(cast(Poll, self._poll), self))
            return True
        incoming = Incoming(head)
        if not self._wire.plane.owns(incoming.head.path):
            self._hand_over(head + self._buffer)
            return False
        incoming.allow_bytes(self._wire.plane.max_body_bytes(incoming.head.path))
        if not (incoming.is_complete or self._is_proven):
            # Nobody reads what a stranger sends: it is answered 401 and takes no memory.
            incoming.keeps_body = self._wire.plane.knows(incoming.head.headers)
        if incoming.head.expects_continue and not self._buffer:
            self._transport.write(_CONTINUE)
        self._incoming = incoming
        self._since = self._wire.tick
        return True

    def _answer(self, incoming: Incoming) -> None:
        self._since = self._wire.tick
        self._was_held = False
        self._keeps_alive = incoming.keeps_alive
        request = incoming.request()
        outcome, poll = self._wire.plane.respond(request, self)
        if poll is not None or (isinstance(outcome, Answer) and outcome.status < 400):
            self._idle_s = self._wire.limits.idle_s
            if not self._wire.plane.is_open(request.path):
                self._is_proven = True
                self._wire.trust(self)
        self._poll = poll
        has_own_bytes = (
            poll is not None
            and incoming.is_head_only
            and request.method == "GET"
            and self._keeps_alive
        )
        self._poll_bytes = incoming.raw if has_own_bytes else None
        if poll is not None and has_own_bytes:
            self._wire.learn(incoming.raw, poll)
        self._conclude(outcome, is_head=request.method == "HEAD")

    def _conclude(self, outcome: Answer | Held, *, is_head: bool = False) -> None:
        if not isinstance(outcome, Answer):
            self._held = outcome
            return
        if outcome.status == 401 and self._is_proven:  # its token was revoked, or it shows another
            self._is_proven = False
            self._wire.mark_unproven(self)
        self._send(outcome, is_head=is_head)

    def _send(self, answer: Answer, *, is_head: bool = False) -> None:
        wire = self._wire
        keeps_alive = self._keeps_alive and not wire.is_leaving
        body = b"" if is_head else answer.body
        close = b"" if keeps_alive else _CLOSE
        self._transport.write(answer.raw + close + wire.date_line + body)
        self._since = wire.tick
        if not keeps_alive:
            self._close()

    def _refuse(self, refusal: Refusal) -> None:
        self._keeps_alive = False
        self._wire.plane.count(refusal.status)
        self._send(problem_answer(refusal))

    def _time_out(self, what: str) -> None:
        self._wire.note_end(f"slow {what}")
        self._refuse(Refusal(408, "too-slow", f"the {what} of the request took too long"))

    def _hand_over(self, data: bytes) -> None:
        successor = self._wire.successor()
        self._wire.forget(self)
        self._is_closing = True
        self._transport.set_protocol(successor)
        successor.connection_made(cast(asyncio.BaseTransport, self._transport))
        successor.data_received(data)

    def _close(self) -> None:
        self._is_closing = True
        self._since = self._wire.tick
        self._buffer, self._poll_bytes = b"", None
        self._transport.close()

    def _abort(self, reason: str) -> None:
        self._is_closing = True
        self._buffer, self._poll_bytes = b"", None
        self._wire.note_end(reason)
        self._transport.abort()


def _head_too_large(limit_bytes: int) -> Refusal:
    return Refusal(
        431, "headers-too-large", f"the head of a request holds at most {limit_bytes} bytes"
    )

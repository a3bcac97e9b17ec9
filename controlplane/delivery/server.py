"""Runs a process with a delivery plane: the sockets, the signals, and the way out.

uvicorn owns the sockets, the lifespan and everything that stands behind the delivery plane, which
speaks HTTP itself (`hotpath.wire`). On SIGTERM: not ready at once, held polls and streams let go
within a moment, no new connections, then the rest of the answers, reports written, exit; all of it
within `--stop-within-s`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import resource
import signal
import socket
import sys
from dataclasses import replace
from types import FrameType
from typing import Any

import structlog
import uvicorn
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from controlplane.delivery.hotpath.connections import Limits, Wire
from controlplane.delivery.hotpath.plane import DeliveryPlane
from controlplane.delivery.hotpath.wire import WireConnection
from controlplane.delivery.process import DeliveryProcess
from controlplane.delivery.services.instruments import PLANE

BACKLOG = 16_384
SHORT_CONNECTIONS = 4_000
SPARE_FILES = 256
LET_GO_WITHIN_S = 1.0
DEAD_PEER_S = 30
SWITCH_INTERVAL_S = 0.000_5
"""For how long a thread may keep Python's lock once the event loop wants it.

The threads that read and write the database keep it for as long as they may, and each turn of the
loop has to get it back: Python's own 5 ms would be the latency of every poll meanwhile.
"""

MAX_PIPELINED = 8
FEWEST_CONNECTIONS = 64
CLIENTS_FAULTS = ("Invalid HTTP request", "Unsupported upgrade", "No supported WebSocket library")


logger = structlog.get_logger(__name__)


class BehindProtocol(HttpToolsProtocol):
    """uvicorn's protocol for what stands behind, whose later heads are bounded as well.

    So are bodies, in time; whatever else brings a request no further: trailers, and what surrounds
    chunks; and how many requests one client may send before the first of them is answered.
    """

    def __init__(self, *, wire: Wire, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._wire = wire
        self._reading_since: int | None = None
        self._is_in_body = False
        self._barren_bytes = 0
        wire.watch(self)

    @property
    def stage(self) -> int:
        """0 between requests, 1 while one arrives, 2 while it waits for its answer."""
        if self._reading_since is not None:
            return 1
        return 0 if self.cycle is None or self.cycle.response_complete else 2

    @property
    def idle_since(self) -> int | None:
        """None: it has a place of its own, and makes room among those."""
        return None

    def data_received(self, data: bytes) -> None:
        """Note when a head begins, and let uvicorn read it."""
        if self.stage == 0:
            self._reading_since = self._wire.tick
            self._wire.watch(self)
        self._barren_bytes += len(data)
        super().data_received(data)
        if self._barren_bytes > self._wire.limits.head_bytes:
            self._wire.note_end("head too large")
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """Note that the head is complete."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise OverflowError("too many requests before the first was answered")
        self._reading_since = self._wire.tick
        self._is_in_body = True
        self._barren_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that there was something in what arrived."""
        self._barren_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the body is complete."""
        self._reading_since = None
        self._is_in_body = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._wire.forget(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Count what is no HTTP, and log it once in a while."""
        self._wire.note_end("malformed", msg)
        super().send_400_response(msg)

    def sweep(self) -> None:
        """Close a connection whose head or body takes too long."""
        limits, what = self._wire.limits, "body" if self._is_in_body else "head"
        within_s = limits.body_s if self._is_in_body else limits.head_s
        if self._reading_since is not None and self._wire.tick - self._reading_since > within_s:
            self._wire.note_end(f"slow {what}")
            self.transport.close()

    def evict(self) -> None:
        """Make room: others that were handed over are in use."""
        self._wire.note_end("evicted")
        self.transport.abort()


class DrainingServer(uvicorn.Server):
    """A uvicorn server in whose front the delivery plane stands, and which drains that first."""

    def __init__(self, config: uvicorn.Config, wire: Wire, *, let_go_within_s: float) -> None:
        super().__init__(config)
        self._wire = wire
        self._let_go_within_s = let_go_within_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to keep time, then listen."""
        self._wire.start(self.server_state.connections, self._successor)  # type: ignore[arg-type]
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain, then stop as uvicorn does; a second SIGINT stops at once."""
        if not self.should_exit:
            self._wire.leave()
            self._wire.plane.drain(over_s=self._let_go_within_s)
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Renew the Date header on every tick, not on every tenth.

        Clients correct their clocks by it, and ten ticks of a busy process last for seconds.
        """
        return await super().on_tick(counter - counter % 10)

    def _successor(self) -> HttpToolsProtocol:
        return BehindProtocol(
            wire=self._wire,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )


def main(application: DeliveryProcess, *, description: str) -> None:
    """Parse the command line and serve `application` until told to stop."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=8000)
    parser.add_argument("--stop-within-s", type=int, default=10, help="bound on a graceful stop")
    options = parser.parse_args()
    try:
        listener = listen(options.host, options.port)
    except OSError as problem:
        parser.error(f"cannot listen on {options.host}, port {options.port}: {problem}")
    # Beyond those that are held there is room for short polls, pages and strangers.
    wanted = settings.TIDEGATE.max_parked_polls + SHORT_CONNECTIONS
    connections = min(wanted, allow_files(wanted) - SPARE_FILES)
    if connections < FEWEST_CONNECTIONS:
        parser.error(
            f"may open only {connections + SPARE_FILES} files at once: a node takes at least "
            f"{FEWEST_CONNECTIONS + SPARE_FILES}, and {wanted + SPARE_FILES} to hold all it may "
            f"(ulimit -n {wanted + SPARE_FILES})"
        )
    if connections < wanted:
        hold_fewer(application.plane, connections, wanted)
    wire = Wire(application.plane, limits=limits_of(connections))
    PLANE.watch_wire(wire)
    config = uvicorn.Config(
        application,
        http=lambda **_: WireConnection(wire),  # type: ignore[arg-type]
        loop="uvloop",
        backlog=BACKLOG,  # uvicorn listens anew, with its own otherwise
        ws="none",  # would take connections over unseen, and nothing here speaks it
        lifespan="on",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, options.stop_within_s // 2),
        log_config=None,
        proxy_headers=False,
    )
    # The other half is for what was reported and is not written yet.
    application.stop_within_s = options.stop_within_s / 2
    server = DrainingServer(
        config, wire, let_go_within_s=min(LET_GO_WITHIN_S, options.stop_within_s / 3)
    )
    logging.getLogger("uvicorn.error").addFilter(is_worth_a_line)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # What is loaded by now lives as long as the process. Unfrozen, each full collection would walk
    # all of Django while every poll waits.
    gc.collect()
    gc.freeze()
    # uvicorn sends itself the signal again when all is done, which would be a death by signal.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve([listener]))
    if server.force_exit:
        raise SystemExit(128 + signal.SIGINT)


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Say no to what uvicorn logs of each request that is none: the wire counts them."""
    return not str(record.msg).startswith(CLIENTS_FAULTS)


def hold_fewer(plane: DeliveryPlane, connections: int, wanted: int) -> None:
    """Leave the same share of fewer connections to those who are not held, and say so."""
    max_held = max(1, plane.config.max_held * connections // wanted)
    plane.config.hold_at_most(max_held)
    logger.warning(
        "connections.limited", connections=connections, wanted=wanted, held_at_most=max_held,
        what="this process may not open more files at once",
        command=f"ulimit -n {wanted + SPARE_FILES}",
    )  # fmt: skip


def limits_of(connections: int) -> Limits:
    """Return limits by which those who show no token cannot take most of the connections."""
    usual = Limits(connections=connections)
    return replace(
        usual,
        unproven=min(usual.unproven, max(1, connections // 4)),
        behind=min(usual.behind, max(1, connections // 4)),
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, not {text!r}")
    return int(text)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket whose connections notice a peer that vanished without a word."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # "::" is every address, of IPv4 as well where the system can.
    is_dual = host == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server(
        (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=is_dual
    )
    # Linux hands these on to every connection that is accepted.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3),
                        ("TCP_USER_TIMEOUT", DEAD_PEER_S * 1_000)):  # fmt: skip
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return listener


def allow_files(wanted: int) -> int:
    """Raise the limit on open files as far as may be and needs be; return what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft

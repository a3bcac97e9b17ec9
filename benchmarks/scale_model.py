"""From unit costs that were measured to what a fleet of any size needs. Pure arithmetic.

`read_units` takes the costs from recorded results; `size_fleet` multiplies them. docs/scale.md
shows the outcome, and a test holds its tables against these functions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"
POLL, LONG_POLL, STREAM = "poll", "long-poll", "stream"
TRANSPORTS = (POLL, LONG_POLL, STREAM)
FLUSH_S = 0.25  # how often a node writes what waits
CHUNK_NOTES = 500  # as many as it writes in one transaction
OURS = "tidegate"
OURS_PROMPT = "tidegate, each asks again at once"


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a fleet does, and how full a node may be: everything here was chosen, not measured."""

    instances_per_service: int = 20
    poll_interval_s: float = 10.0
    poll_jitter: float = 0.2
    wait_s: float = 28.5  # of 30, less what the server takes off at random
    heartbeat_s: float = 15.0
    stream_life_s: float = 900.0
    publications_per_h: float = 60.0  # each of one service
    fleet_defaults_per_day: float = 2.0
    connections_per_node: int = 10_000
    busy_ratio: float = 0.5  # of the one core of a delivery process
    spare_nodes: int = 1
    segment_bytes: int = 66  # Ethernet, IP and TCP headers; no TLS


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through two measured points."""

    at_zero: float
    slope: float

    def at(self, x: float) -> float:
        """Its value at `x`."""
        return self.at_zero + self.slope * x

    def reaches(self, y: float) -> float:
        """Where it reaches `y`; infinity when it never does."""
        return (y - self.at_zero) / self.slope if self.slope > 0 else math.inf


def line_through(first: tuple[float, float], second: tuple[float, float]) -> Line:
    """Return the line through two points."""
    slope = (second[1] - first[1]) / (second[0] - first[0])
    return Line(first[1] - slope * first[0], slope)


@dataclass(frozen=True, slots=True)
class Units:
    """Measured: microseconds of processor, bytes, KB, milliseconds and statements of one thing."""

    exchange_cpu_us: Mapping[str, float]
    exchange_bytes: Mapping[str, int]
    exchange_segments: Mapping[str, int]
    fetch_cpu_us: Mapping[str, float]
    fetch_bytes: Mapping[str, int]
    parked_kb: Mapping[str, float]
    fan_out_ms: Mapping[str, Line]
    first_waiter_ms: float
    node_mb: Line
    fleet_publish_s: Line
    fleet_served_s: Line
    seen_database_us: float
    applied_database_us: float
    seen_statements_per_chunk: int
    idle_look_statements: int
    news_look_statements: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a fleet of one size needs when its instances use one transport."""

    instances: int
    transport: str
    exchanges_per_s: float
    cores: float
    nodes: int
    node_mb: float
    bits_per_s_each: float
    megabit_per_s: float
    reads_per_s: float
    writes_per_s: float
    rows_per_s: float
    database_cores: float
    service_p99_s: float
    fleet_p99_s: float


def read_units(folder: Path = RECORDED) -> Units:
    """Return the unit costs of the recorded runs."""
    fanout, scale, costs, quiet = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("fanout", "scale", "costs", "quiet")
    )
    size = costs["bytes"]
    rows = {row["services"]: row for row in scale["rows"]}
    less, more = sorted(rows)[-2:]

    def over_services(field: str) -> Line:
        return line_through((less, rows[less][field]), (more, rows[more][field]))

    long_poll, stream = (_fan_out(fanout, transport) for transport in (LONG_POLL, STREAM))
    prompt_cpu_us = _row(fanout, OURS_PROMPT, LONG_POLL, 5_000)["server_cpu_us_each"]
    event_cpu_us = _row(fanout, OURS, STREAM, 5_000)["server_cpu_us_each"]
    figures = quiet["figures"]
    postgresql = costs["reports"]["postgresql"]
    full = size["answer_200_gzip"]
    # Reports are written after the fan-out, so its own figure has no part of them.
    written_us = postgresql["applied"]["cpu_us"]
    return Units(
        exchange_cpu_us={each: figures[each]["node_cpu_us"] for each in TRANSPORTS},
        exchange_bytes={
            POLL: size["request_304"] + size["answer_304"],
            LONG_POLL: size["request_wait"] + size["answer_304"],
            STREAM: len(b":\n\n"),
        },
        exchange_segments={POLL: 3, LONG_POLL: 4, STREAM: 2},
        fetch_cpu_us={
            POLL: prompt_cpu_us + written_us,
            LONG_POLL: prompt_cpu_us + written_us,
            # The event, and the short poll that says it is applied.
            STREAM: event_cpu_us + figures[POLL]["node_cpu_us"] + written_us,
        },
        fetch_bytes={
            POLL: full,
            LONG_POLL: full + size["request_wait"],
            STREAM: size["event"] + size["request_304"] + size["answer_304"],
        },
        parked_kb={
            POLL: long_poll[1],  # a connection that is kept open, and what is known of its instance
            LONG_POLL: long_poll[1],
            STREAM: stream[1],
        },
        fan_out_ms={LONG_POLL: long_poll[0], STREAM: stream[0]},
        first_waiter_ms=rows[less]["waiter_p50_ms"],
        node_mb=over_services("rss_mb"),
        fleet_publish_s=over_services("fleet_transaction_s"),
        fleet_served_s=over_services("fleet_all_served_s"),
        seen_database_us=postgresql["seen"]["database_cpu_us"],
        applied_database_us=postgresql["applied"]["database_cpu_us"],
        seen_statements_per_chunk=round(
            postgresql["seen"]["statements_per_1000"] * CHUNK_NOTES / 1_000
        ),
        idle_look_statements=costs["looks"]["idle"],
        news_look_statements=costs["looks"]["news"],
    )


def _row(fanout: Mapping[str, Any], server: str, transport: str, count: int) -> dict[str, Any]:
    for row in fanout["rows"]:
        if (row["server"], row["transport"], row["count"]) == (server, transport, count):
            return dict(row)
    raise KeyError(f"fanout.json has no row of {server}, {transport}, {count:,}")


def _fan_out(fanout: Mapping[str, Any], transport: str) -> tuple[Line, float]:
    """The p99 from commit, in proportion to the parked instances, and the memory of each."""
    row = _row(fanout, OURS, transport, 10_000)
    return Line(0.0, row["p99_ms"] / row["count"]), row["kb_each"]


def size_fleet(
    instances: int, transport: str, units: Units, given: Assumptions = Assumptions()
) -> Fleet:
    """Return what `instances` need when all of them use `transport`."""
    every_s = {
        POLL: given.poll_interval_s, LONG_POLL: given.wait_s, STREAM: given.heartbeat_s,
    }[transport]  # fmt: skip
    exchanges_per_s = instances / every_s
    services = instances / given.instances_per_service
    publications_per_s = given.publications_per_h / 3600
    fetches_per_s = (
        publications_per_s * given.instances_per_service
        + given.fleet_defaults_per_day / 86_400 * instances
    )
    cores = (
        exchanges_per_s * units.exchange_cpu_us[transport]
        + fetches_per_s * units.fetch_cpu_us[transport]
    ) / 1e6
    nodes = given.spare_nodes + max(
        math.ceil(cores / given.busy_ratio), math.ceil(instances / given.connections_per_node)
    )
    each_node = instances / (nodes - given.spare_nodes)
    bytes_per_s = exchanges_per_s * (
        units.exchange_bytes[transport] + units.exchange_segments[transport] * given.segment_bytes
    ) + fetches_per_s * (units.fetch_bytes[transport] + 4 * given.segment_bytes)
    notes_per_s = exchanges_per_s + fetches_per_s
    flushes_per_s = min(notes_per_s, nodes / FLUSH_S)
    each_flush = notes_per_s / flushes_per_s
    return Fleet(
        instances=instances,
        transport=transport,
        exchanges_per_s=exchanges_per_s,
        cores=cores,
        nodes=nodes,
        node_mb=units.node_mb.at(services) + each_node * units.parked_kb[transport] / 1024,
        bits_per_s_each=bytes_per_s * 8 / instances,
        megabit_per_s=bytes_per_s * 8 / 1e6,
        reads_per_s=nodes
        * (units.idle_look_statements + publications_per_s * units.news_look_statements),
        writes_per_s=flushes_per_s
        * math.ceil(each_flush / CHUNK_NOTES)
        * units.seen_statements_per_chunk,
        rows_per_s=notes_per_s,
        database_cores=(
            exchanges_per_s * units.seen_database_us + fetches_per_s * units.applied_database_us
        )
        / 1e6,
        service_p99_s=_service_p99_s(transport, units, given),
        fleet_p99_s=_fleet_p99_s(transport, services, each_node, units, given),
    )


def _slowest_poll_s(given: Assumptions) -> float:
    return given.poll_interval_s * (1 + given.poll_jitter)


def _service_p99_s(transport: str, units: Units, given: Assumptions) -> float:
    """From the commit until 99 of 100 instances of one service have its new policy."""
    if transport == POLL:
        return _slowest_poll_s(given)
    # So few waiters that the way to the first of them is all there is.
    return units.first_waiter_ms / 1e3


def _fleet_p99_s(
    transport: str, services: float, each_node: float, units: Units, given: Assumptions
) -> float:
    """The same for a fleet default: every node serves every service anew, then all its waiters."""
    served_s = max(0.0, units.fleet_served_s.at(services))
    if transport == POLL:
        return served_s + _slowest_poll_s(given)
    return served_s + units.fan_out_ms[transport].at(each_node) / 1e3


@dataclass(frozen=True, slots=True)
class Limit:
    """Where something ends, in instances of the assumed fleet."""

    what: str
    instances: float


def find_limits(units: Units, given: Assumptions = Assumptions()) -> list[Limit]:
    """Return where the design stops to be comfortable, soonest first."""
    each = given.instances_per_service
    limits = [
        Limit("a node's memory for all services reaches 2 GB", units.node_mb.reaches(2_048) * each),
        Limit(
            "a fleet default holds the publishing lock for 10 s",
            units.fleet_publish_s.reaches(10) * each,
        ),
        Limit(
            "a fleet default is served by a node 10 s after its commit",
            units.fleet_served_s.reaches(10) * each,
        ),
        Limit(
            "reports of polls take one core of PostgreSQL",
            1e6 / units.seen_database_us * given.poll_interval_s,
        ),
        Limit(
            "reports of long-polls take one core of PostgreSQL",
            1e6 / units.seen_database_us * given.wait_s,
        ),
    ]
    return sorted(limits, key=lambda limit: limit.instances)

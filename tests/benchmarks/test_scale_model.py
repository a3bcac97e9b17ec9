"""The model of docs/scale.md: its tables are the record's, and its arithmetic is plain."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.figures import DOCUMENTS, TABLES, render
from benchmarks.scale_model import (
    LONG_POLL,
    POLL,
    STREAM,
    TRANSPORTS,
    Assumptions,
    Line,
    Units,
    find_limits,
    line_through,
    read_units,
    size_fleet,
)

QUIET = Assumptions(publications_per_h=0, fleet_defaults_per_day=0, segment_bytes=0)
UNITS = Units(
    exchange_cpu_us={POLL: 100.0, LONG_POLL: 200.0, STREAM: 50.0},
    exchange_bytes={POLL: 500, LONG_POLL: 520, STREAM: 3},
    exchange_segments=dict.fromkeys(TRANSPORTS, 3),
    fetch_cpu_us=dict.fromkeys(TRANSPORTS, 400.0),
    fetch_bytes=dict.fromkeys(TRANSPORTS, 1_000),
    parked_kb=dict.fromkeys(TRANSPORTS, 10.24),
    fan_out_ms={LONG_POLL: Line(10.0, 0.02), STREAM: Line(10.0, 0.01)},
    first_waiter_ms=8.0,
    node_mb=Line(80.0, 0.03),
    fleet_publish_s=Line(0.0, 0.0004),
    fleet_served_s=Line(0.0, 0.0002),
    seen_database_us=20.0,
    applied_database_us=200.0,
    seen_statements_per_chunk=4,
    idle_look_statements=3,
    news_look_statements=5,
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_table_of_a_document_is_what_the_record_gives(document: Path) -> None:
    text = document.read_text()

    assert text.count("<!-- figures: ") >= 1
    assert render(text) == text, "run: python benchmarks/figures.py"


def test_every_table_is_shown_somewhere() -> None:
    shown = "".join(document.read_text() for document in DOCUMENTS)

    assert [name for name in TABLES if f"<!-- figures: {name} -->" not in shown] == []


def test_a_fleet_of_polls_costs_its_rate_times_the_price_of_one() -> None:
    fleet = size_fleet(100_000, POLL, UNITS, QUIET)

    assert fleet.exchanges_per_s == 10_000
    assert fleet.cores == pytest.approx(1.0)
    assert fleet.megabit_per_s == pytest.approx(10_000 * 500 * 8 / 1e6)
    assert fleet.rows_per_s == 10_000
    assert fleet.database_cores == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("cpu_us", "nodes"), [(100.0, 11), (1_000.0, 21)], ids=["connections decide", "cores decide"]
)
def test_nodes_follow_what_is_scarcer_and_one_is_spare(cpu_us: float, nodes: int) -> None:
    units = replace(UNITS, exchange_cpu_us={POLL: cpu_us})

    assert size_fleet(100_000, POLL, units, QUIET).nodes == nodes


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_ten_times_the_instances_are_ten_times_everything_but_the_time_of_one_service(
    transport: str,
) -> None:
    small, large = (size_fleet(count, transport, UNITS) for count in (100_000, 1_000_000))

    assert large.exchanges_per_s == pytest.approx(10 * small.exchanges_per_s)
    assert large.nodes - 1 == 10 * (small.nodes - 1)
    assert large.service_p99_s == small.service_p99_s
    assert large.fleet_p99_s > small.fleet_p99_s


def test_every_node_reads_the_database_once_a_second_and_once_per_publication() -> None:
    busy = replace(QUIET, publications_per_h=3_600)

    fleet = size_fleet(100_000, STREAM, UNITS, busy)

    assert fleet.reads_per_s == fleet.nodes * (3 + 5)


def test_writes_follow_the_flushes_of_nodes_and_the_size_of_each() -> None:
    few = size_fleet(10_000, POLL, UNITS, QUIET)  # 1,000 notes a second, 8 flushes of 2 nodes
    many = size_fleet(10_000, POLL, UNITS, replace(QUIET, poll_interval_s=1.0))

    assert few.writes_per_s == 8 * 4
    assert many.nodes == 3
    assert many.writes_per_s == 12 * 2 * 4  # 833 notes in each: two chunks


def test_a_fleet_default_takes_the_slowest_of_serving_and_polling() -> None:
    polled = size_fleet(100_000, POLL, UNITS, QUIET)
    waited = size_fleet(100_000, LONG_POLL, UNITS, QUIET)

    assert polled.fleet_p99_s == pytest.approx(5_000 * 0.0002 + 12.0)
    assert waited.fleet_p99_s == pytest.approx(5_000 * 0.0002 + (10 + 10_000 * 0.02) / 1e3)


def test_limits_come_soonest_first_and_what_is_flat_is_never_reached() -> None:
    flat = replace(UNITS, fleet_served_s=Line(1.0, 0.0))

    limits = find_limits(flat)

    assert [limit.instances for limit in limits] == sorted(limit.instances for limit in limits)
    assert limits[-1].instances == math.inf
    assert limits[0].instances == pytest.approx(500_000)  # 10 s of a transaction of 0.4 ms each


def test_a_line_goes_through_both_of_its_points() -> None:
    line = line_through((1_000, 5.0), (10_000, 50.0))

    assert line.at(1_000) == pytest.approx(5.0)
    assert line.at(10_000) == pytest.approx(50.0)
    assert line.reaches(100.0) == pytest.approx(20_000)


def test_the_record_holds_every_unit_as_a_positive_number() -> None:
    units = read_units()

    assert min(units.exchange_cpu_us.values()) > 0
    assert min(units.exchange_bytes.values()) > 0
    assert min(units.fetch_cpu_us.values()) > 0
    assert min(units.parked_kb.values()) > 0
    assert min(line.slope for line in units.fan_out_ms.values()) > 0
    assert units.seen_database_us > 0

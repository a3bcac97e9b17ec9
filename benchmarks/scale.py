"""What everything costs as services grow: 10, 100, 1,000, 10,000, each with a version and a token.

    python benchmarks/scale.py [--services 10,100,1000,10000]

For each size, on one delivery process: how long it takes to be ready (from the database; again,
with the snapshot file it left; from that file alone, the database being away), its memory, the
latency of a 304, how long after a commit the first waiter has the policy, and a publication of the
fleet default, which publishes every service anew: how long it holds the lock, how long until the
last service is served, and what polls notice of it.

Prints tables and bars on growth, writes benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fanout import settle
from benchmarks.harness.assistants import Assistant, assistant
from benchmarks.harness.installation import Installation, installation
from benchmarks.harness.load import Run, closed_loop, open_loop, probe
from benchmarks.harness.machine import (
    CLIENT_CORE,
    median,
    pin,
    raise_files_limit,
    rss_kb,
    write_result,
)
from benchmarks.harness.names import config_path, token_text
from benchmarks.harness.processes import Server
from benchmarks.harness.rivals import get
from benchmarks.harness.tables import Bar, print_bars, print_table

SIZES = (10, 100, 1_000, 10_000)
NODE = "node"
PUBLICATIONS = 15
POLLERS = 1_000  # at least, each with a token of its own: a token may make 2,000 polls per second
POLLS_PER_S = 1_000  # offered, in an open loop
NOWHERE = "sqlite:////nonexistent/tidegate/db.sqlite3"


@dataclass(frozen=True, slots=True)
class Row:
    """What one size costs."""

    services: int
    start_s: float
    restart_s: float
    start_from_file_s: float
    rss_mb: float
    closed_304_per_s: float
    closed_304_p99_ms: float
    open_304_p50_ms: float
    open_304_p99_ms: float
    publish_ms: float
    waiter_p50_ms: float
    waiter_max_ms: float
    fleet_transaction_s: float
    fleet_all_served_s: float
    poll_p99_during_fleet_ms: float
    poll_max_during_fleet_ms: float
    read_s: float
    idle_look_ms: float
    compile_s: float
    file_read_s: float
    file_mb: float


def measure(here: Installation, services: int) -> Row:
    """Fill one database, and see what its size costs."""
    copies = max(1, POLLERS // services)
    here.operator.ask("fill", services=services, dependencies=2, tokens_each=copies)
    start_s = _seconds_to_ready(here)
    with here.delivery(NODE) as server:
        settle(server.pid)
        rss_mb = rss_kb(server.pid) / 1024
        polls = _known_polls(server, services, copies)
        closed = closed_loop(server, polls, status=304, seconds=2)
        settle(server.pid)
        calm = open_loop(server, polls, status=304, seconds=2, per_s=POLLS_PER_S)
        published_ms, waited_ms = _publish_one(here, server)
        settle(server.pid)
        transaction_s, served_s, during = _publish_all(here, server, polls, services)
        settle(server.pid)
    restart_s = _seconds_to_ready(here)
    from_file_s = _seconds_to_ready(here, TIDEGATE_DATABASE_URL=NOWHERE)
    parts = here.operator.ask("loading", path=str(here.state_dir / NODE / "snapshots.log"))
    if parts["saved"] < services:
        raise SystemExit(f"the snapshot file holds {parts['saved']} of {services} services")
    return Row(
        services=services,
        start_s=round(start_s, 2),
        restart_s=round(restart_s, 2),
        start_from_file_s=round(from_file_s, 2),
        rss_mb=round(rss_mb, 1),
        closed_304_per_s=round(closed.per_s),
        closed_304_p99_ms=round(closed.p99_ms, 2),
        open_304_p50_ms=round(calm.p50_ms, 3),
        open_304_p99_ms=round(calm.p99_ms, 3),
        publish_ms=round(median(published_ms), 2),
        waiter_p50_ms=round(median(waited_ms), 2),
        waiter_max_ms=round(max(waited_ms), 2),
        fleet_transaction_s=round(transaction_s, 3),
        fleet_all_served_s=round(served_s, 3),
        poll_p99_during_fleet_ms=round(during.p99_ms, 2),
        poll_max_during_fleet_ms=round(during.max_ms, 2),
        read_s=round(parts["read_s"], 3),
        idle_look_ms=round(parts["idle_look_s"] * 1e3, 2),
        compile_s=round(parts["compile_s"], 3),
        file_read_s=round(parts["file_read_s"], 3),
        file_mb=round(parts["file_bytes"] / 1e6, 2),
    )


def _seconds_to_ready(here: Installation, **variables: str) -> float:
    started = time.perf_counter()
    with here.delivery(NODE, **variables):
        return time.perf_counter() - started


def _poll(number: int, port: int, copy: int = 0, **headers: str) -> bytes:
    return get(
        config_path(number),
        port,
        Authorization=f"Bearer {token_text(number, copy)}",
        Tidegate_Instance=f"instance-{number}-{copy}",
        **headers,
    )


def _etag(server: Server, number: int) -> str:
    answer = probe(server.port, _poll(number, server.port))
    return answer.split(b"etag: ", 1)[1].split(b"\r\n", 1)[0].decode()


def _known_polls(server: Server, services: int, copies: int) -> list[bytes]:
    """Polls with the etag that each service is served now, the services in turn."""
    etags = [_etag(server, number) for number in range(services)]
    return [
        _poll(number, server.port, copy, If_None_Match=etag, Tidegate_Applied=etag)
        for copy in range(copies)
        for number, etag in enumerate(etags)
    ]


def _park(waiters: Assistant, server: Server, numbers: set[int]) -> None:
    """Park one long-poll on each of these services; alone, it can wait again and again."""
    etags = {number: _etag(server, number) for number in numbers}
    waiters.ask(
        "connect",
        port=server.port,
        requests=[
            _poll(
                number,
                server.port,
                If_None_Match="{etag}" if len(numbers) == 1 else etag,
                Prefer="wait=60",
            ).decode()
            for number, etag in etags.items()
        ],
        etag=next(iter(etags.values())),
        end="",
        is_prompt=False,
    )
    settle(server.pid)


def _publish_one(here: Installation, server: Server) -> tuple[list[float], list[float]]:
    """Publish one service again and again; how long each took, and each wait for it, in ms."""
    published_ms, waited_ms = [], []
    with assistant("benchmarks.harness.waiters") as waiters:
        _park(waiters, server, {0})
        for number in range(PUBLICATIONS):
            deadline_ms = 2_001 + number
            waiters.ask("arm", marker=f'"deadline_ms":{deadline_ms}')
            done = here.operator.ask("publish", service=0, deadline_ms=deadline_ms)
            answered = _answered(waiters, 1)
            published_ms.append((done["committed_ns"] - done["started_ns"]) / 1e6)
            waited_ms.append((answered[0] - done["committed_ns"]) / 1e6)
            waiters.ask("again")
            time.sleep(0.1)  # it parks within a few ms; later, its wait would only look shorter
    return published_ms, waited_ms


def _publish_all(
    here: Installation, server: Server, polls: list[bytes], services: int
) -> tuple[float, float, Run]:
    """Publish the fleet default while others poll.

    Returns how long the transaction took, how long after it the last service was served, and what
    the polls saw meanwhile.
    """
    # Service 0 has a deadline of its own since it was published alone.
    watched = {1, services // 2, services - 1}
    with assistant("benchmarks.harness.waiters") as waiters:
        _park(waiters, server, watched)
        waiters.ask("arm", marker='"deadline_ms":2900')
        here.operator.tell("publish_fleet", deadline_ms=2_900)
        seconds = 2.0 + services / 1_000
        during = open_loop(server, polls, status=0, seconds=seconds, per_s=POLLS_PER_S)
        done = here.operator.hear()
        answered = _answered(waiters, len(watched))
    transaction_s = (done["committed_ns"] - done["started_ns"]) / 1e9
    return transaction_s, (max(answered) - done["committed_ns"]) / 1e9, during


def _answered(waiters: Assistant, count: int) -> list[int]:
    result = waiters.ask("result", within_s=20)
    answered: list[int] = result["answered_ns"]
    if len(answered) != count:
        raise SystemExit(f"{len(answered)} of {count} waiters were answered; {result['wrong']}")
    return answered


def bars(rows: list[Row]) -> list[Bar]:
    """Growth from the last size but one to the last: ten times the services, at most that cost."""
    if len(rows) < 2:
        return []
    less, more = rows[-2], rows[-1]
    factor = more.services / less.services
    grown = f"{less.services:,} to {more.services:,} services"
    return [
        Bar(f"304 per second, {grown}", more.closed_304_per_s / less.closed_304_per_s, 0.7),
        Bar(f"commit to first waiter, {grown}", more.waiter_p50_ms / less.waiter_p50_ms,
            2, is_least=False, unit="x"),
        Bar(f"fleet default, to the last served, {grown}",
            more.fleet_all_served_s / less.fleet_all_served_s, 1.5 * factor, is_least=False,
            unit="x"),
        Bar(f"start from the database, {grown}", more.start_s / less.start_s,
            factor, is_least=False, unit="x"),
        Bar(f"memory, {grown}", more.rss_mb / less.rss_mb, factor, is_least=False, unit="x"),
    ]  # fmt: skip


def report(rows: list[Row]) -> None:
    """Print what was measured, one column per size."""
    columns = ("", *(f"{row.services:,}" for row in rows))
    documents = [asdict(row) for row in rows]
    names = [name for name in documents[0] if name != "services"]
    print_table(
        "by number of services; the client's own noise is in the latencies",
        columns,
        [(name, *(float(document[name]) for document in documents)) for name in names],
    )


def main() -> None:
    """Measure every size, smallest first, each in an installation of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--services", default=",".join(map(str, SIZES)))
    options = parser.parse_args()
    pin(CLIENT_CORE)
    raise_files_limit()
    rows = []
    for services in map(int, options.services.split(",")):
        with installation() as here:
            rows.append(measure(here, services))
        print(".", end="", flush=True)
    report(rows)
    judged = bars(rows)
    met = print_bars(judged)
    write_result(
        "scale",
        {"rows": [asdict(row) for row in rows], "bars": [bar.as_document() for bar in judged]},
    )
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()

"""Polls answered 304 and 200: a real delivery process beside what else could answer them.

    python benchmarks/hotpath.py [--rounds 4] [--seconds 1]

Ours is `python -m controlplane.delivery.serve` on a database of 1,000 services with a token each,
limits and reports on; polls come from instances with tokens of their own. The others:
a bare ASGI callable on uvicorn, a DRF view on the same database, nginx with the same body as a
file, etcd's JSON gateway. Servers are pinned to one core, the load to another, and candidates take
turns, so that whatever else the machine does meets all of them alike.

Prints tables and bars, writes benchmarks/results/hotpath.json; a missed bar is exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.installation import Installation, installation
from benchmarks.harness.load import CONNECTIONS, SENDERS, Run, closed_loop, open_loop, probe
from benchmarks.harness.machine import CLIENT_CORE, median, pin, write_result
from benchmarks.harness.names import config_path, token_text
from benchmarks.harness.processes import Server
from benchmarks.harness.rivals import (
    bare_server,
    coded,
    drf_server,
    etcd_put,
    etcd_server,
    find_missing,
    find_program,
    get,
    nginx_server,
    post_json,
)
from benchmarks.harness.tables import Bar, print_bars, print_table

SERVICES = 1_000
DEPENDENCIES = 7  # of each service: a body of about 4 KB
OPEN_LOOP_PER_S = 4_000
UNCHANGED, CROWD, OPEN, FULL = "304", "304 of 1,000", "304 open", "200"
TITLES = {
    UNCHANGED: f"304 polls of {SENDERS} instances over {CONNECTIONS} connections, closed loop",
    CROWD: f"the same from {SERVICES:,} instances, each noted every 5 s",
    OPEN: f"304 polls, {OPEN_LOOP_PER_S:,} per second offered, open loop",
    FULL: f"200 polls, {CONNECTIONS} connections, closed loop",
}
OURS, BARE, DRF, NGINX, ETCD = "tidegate", "bare ASGI", "DRF view", "nginx file", "etcd range"
TOO_SLOW = (DRF, ETCD)  # to carry the offered rate, or to care how many there are


@dataclass(frozen=True, slots=True)
class Candidate:
    """A running server, and the requests that make it answer 304 (or the like) and 200."""

    name: str
    server: Server
    unchanged: Sequence[bytes]
    changed: Sequence[bytes]
    unchanged_status: int = 304


def start_all(stack: contextlib.ExitStack, here: Installation) -> list[Candidate]:
    """Start every candidate that this machine has."""
    ours = stack.enter_context(here.delivery())
    answers = [probe(ours.port, _poll(number, ours.port)) for number in range(SERVICES)]
    body = answers[0].split(b"\r\n\r\n", 1)[1]
    tags = [_header(answer, b"etag") for answer in answers]

    def http(name: str, server: Server, etags: Sequence[str]) -> Candidate:
        numbers = range(SERVICES)
        return Candidate(
            name,
            server,
            [_poll(number, server.port, etags[number]) for number in numbers],
            # Nobody fetches the same policy thousands of times per second and has it noted each
            # time: what a noted fetch costs is measured on its own.
            [_poll(number, server.port, is_named=False) for number in numbers],
        )

    found = [
        http(OURS, ours, tags),
        http(BARE, stack.enter_context(bare_server(body)), tags),
        http(DRF, stack.enter_context(drf_server(here.env)), tags),
    ]
    if find_program("nginx"):
        paths = [config_path(number) for number in range(SERVICES)]
        nginx = stack.enter_context(nginx_server(paths, body))
        tag = _header(probe(nginx.port, get(paths[0], nginx.port)), b"etag")
        found.append(http(NGINX, nginx, [tag] * SERVICES))
    if find_program("etcd"):
        found.append(_etcd(stack.enter_context(etcd_server()), body))
    return found


def _poll(number: int, port: int, etag: str = "", *, is_named: bool = True) -> bytes:
    """What the SDK of one instance of one service sends."""
    more = {"Tidegate_Instance": f"instance-{number}"} if is_named else {}
    if etag:
        more |= {"If_None_Match": etag, "Tidegate_Applied": etag}
    return get(
        config_path(number),
        port,
        Accept="application/json",
        User_Agent="tidegate-python/0.1",
        Authorization=f"Bearer {token_text(number)}",
        **more,
    )


def _etcd(server: Server, body: bytes) -> Candidate:
    keys = [f"/config/{number:04}" for number in range(SERVICES)]
    revision = 0
    for key in keys:
        revision = etcd_put(server.port, key, body)
    # What a client of etcd can ask at this price: only if it changed after the revision I have.
    return Candidate(
        ETCD,
        server,
        [
            post_json("/v3/kv/range", server.port,
                      {"key": coded(key.encode()), "min_mod_revision": str(revision + 1)})
            for key in keys
        ],
        [post_json("/v3/kv/range", server.port, {"key": coded(key.encode())}) for key in keys],
        unchanged_status=200,
    )  # fmt: skip


def _header(answer: bytes, name: bytes) -> str:
    for line in answer.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]:
        field, _, value = line.partition(b":")
        if field.lower() == name:
            return value.strip().decode()
    raise SystemExit(f"an answer without {name.decode()}: {answer[:300]!r}")


def measure(
    candidates: Sequence[Candidate], rounds: int, seconds: int
) -> dict[str, dict[str, list[Run]]]:
    """Load every candidate in turn, round by round, one kind of load after the other."""
    runs: dict[str, dict[str, list[Run]]] = {}
    for candidate in candidates:
        _run(UNCHANGED, candidate, 1)
    for kind in TITLES:
        runs[kind] = {
            each.name: []
            for each in candidates
            if kind in (UNCHANGED, FULL) or each.name not in TOO_SLOW
        }
        for number in range(rounds):
            # Every other round the other way round, so that drift favours nobody.
            for each in list(candidates)[:: 1 if number % 2 == 0 else -1]:
                if each.name in runs[kind]:
                    runs[kind][each.name].append(_run(kind, each, seconds))
    return runs


def _run(kind: str, each: Candidate, seconds: int) -> Run:
    if kind == FULL:
        return closed_loop(each.server, each.changed, status=200, seconds=seconds)
    status = each.unchanged_status
    if kind == OPEN:
        return open_loop(
            each.server, each.unchanged, status=status, seconds=seconds, per_s=OPEN_LOOP_PER_S
        )
    return closed_loop(
        each.server,
        each.unchanged,
        status=status,
        seconds=seconds,
        senders=SERVICES if kind == CROWD else SENDERS,
    )


def summarise(runs: dict[str, dict[str, list[Run]]]) -> dict[str, Any]:
    """Best and median of each candidate under each load."""
    return {
        kind: {
            name: {
                "best_per_s": round(max(run.per_s for run in of_one)),
                "median_per_s": round(median([run.per_s for run in of_one])),
                "best_p50_ms": round(min(run.p50_ms for run in of_one), 3),
                "best_p99_ms": round(min(run.p99_ms for run in of_one), 3),
                "median_p99_ms": round(median([run.p99_ms for run in of_one]), 3),
                "best_server_cpu_us": round(min(run.server_cpu_us for run in of_one), 2),
            }
            for name, of_one in by_name.items()
        }
        for kind, by_name in runs.items()
    }


def bars(runs: dict[str, dict[str, list[Run]]], figures: dict[str, Any]) -> list[Bar]:
    """Relate ours to the others: best runs decide, for noise only ever makes a run slower."""
    unchanged = figures[UNCHANGED]

    def times(other: str) -> float | None:
        if other not in unchanged:
            return None
        return float(unchanged[OURS]["best_per_s"] / unchanged[other]["best_per_s"])

    def p99_ratio(kind: str) -> float:
        return float(figures[kind][OURS]["best_p99_ms"] / figures[kind][BARE]["best_p99_ms"])

    neighbours = median(
        [
            one.per_s / other.per_s
            for one, other in zip(runs[UNCHANGED][OURS], runs[UNCHANGED][BARE], strict=True)
        ]
    )
    print(f"\nmedian of neighbouring 304 runs, ours / bare ASGI: {neighbours:.2f} (noisier)")
    if NGINX in unchanged:
        print(f"ours / nginx with the same file: {times(NGINX):.2f} (no bar)")
    return [
        Bar("304 per second: ours / bare ASGI callable on uvicorn", times(BARE), 0.85),
        Bar("304 per second: ours / DRF view", times(DRF), 20, unit="x"),
        Bar("304 per second: ours / etcd's not-changed probe", times(ETCD), 3, unit="x"),
        Bar(
            f"p99 of 304, ours / bare, {CONNECTIONS} connections, closed loop",
            p99_ratio(UNCHANGED), 3, is_least=False,
        ),
        Bar(
            f"p99 of 304, ours / bare, {OPEN_LOOP_PER_S:,}/s offered, open loop",
            p99_ratio(OPEN), 3, is_least=False,
        ),
    ]  # fmt: skip


def report(figures: dict[str, Any]) -> None:
    """Print one table per kind of load."""
    columns = ("candidate", "best/s", "median/s", "p50 ms", "p99 ms", "median p99", "CPU µs")
    for kind, title in TITLES.items():
        print_table(
            title, columns, [(name, *row.values()) for name, row in figures[kind].items()]
        )  # fmt: skip


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=1, help="of each run")
    options = parser.parse_args()
    pin(CLIENT_CORE)
    generator = "wrk" if find_program("wrk") else "asyncio client"
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(installation())
        here.operator.ask("fill", services=SERVICES, dependencies=DEPENDENCIES)
        candidates = start_all(stack, here)
        body_bytes = len(probe(candidates[0].server.port, candidates[0].changed[0]))
        runs = measure(candidates, options.rounds, options.seconds)
    figures = summarise(runs)
    print(f"closed loop by {generator}; open loop by an asyncio client; answer {body_bytes:,} B")
    report(figures)
    for missing in find_missing("nginx", "etcd", "wrk"):
        print(missing)
    judged = bars(runs, figures)
    met = print_bars(judged)
    write_result(
        "hotpath",
        {
            "load_generator": generator,
            "connections": CONNECTIONS,
            "services": SERVICES,
            "answer_bytes": body_bytes,
            "open_loop_per_s": OPEN_LOOP_PER_S,
            "figures": figures,
            "bars": [bar.as_document() for bar in judged],
        },
    )
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()

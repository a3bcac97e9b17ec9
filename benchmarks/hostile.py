"""What hostile connections cost everybody else.

    python benchmarks/hostile.py [--rounds 3] [--seconds 3]

One delivery process; honest instances poll at an equal offered rate, in turn alone and beside one
kind of attack, which has begun when the polls do and goes on: ten thousand half-open connections,
two thousand whose heads never end, heads of a megabyte, garbage and bodies that never come, two
hundred streams that nobody reads while policies are published, and a thousand requests at once on
each of twenty connections. Latency counts from the moment a poll was due.

Prints a table and bars, writes benchmarks/results/hostile.json; a missed bar is exit code 1.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.assistants import Assistant, assistant
from benchmarks.harness.attacker import KINDS
from benchmarks.harness.installation import Installation, installation
from benchmarks.harness.load import Run, paced_loop, probe
from benchmarks.harness.machine import CLIENT_CORE, median, pin, raise_files_limit, write_result
from benchmarks.harness.names import config_path, token_text
from benchmarks.harness.processes import Server
from benchmarks.harness.rivals import get
from benchmarks.harness.tables import Bar, print_bars, print_table

SERVICES = 100
PER_S = 1_000
ALONE = "nobody else"
BAR_P50_RATIO, BAR_P99_MORE_MS = 3.0, 25.0


def measure(here: Installation, server: Server, rounds: int, seconds: float) -> dict[str, Any]:
    """Poll alone and beside each attack in turn; return the figures of each."""
    polls = [_poll(server.port, number) for number in range(1, SERVICES)]
    runs: dict[str, list[Run]] = {kind: [] for kind in (ALONE, *KINDS)}
    opened: dict[str, int] = {}
    deadlines_ms = itertools.count(1_001)
    with assistant("benchmarks.harness.attacker") as attacker:
        paced_loop(server, polls, status=304, seconds=1, per_s=PER_S)
        for _ in range(rounds):
            for kind in runs:
                if kind != ALONE:
                    attacker.ask("start", kind=kind, port=server.port, token=token_text(0))
                if kind == "unread_streams":
                    here.operator.ask("publish", service=0, deadline_ms=next(deadlines_ms))
                runs[kind].append(
                    paced_loop(server, polls, status=304, seconds=seconds, per_s=PER_S)
                )
                if kind != ALONE:
                    opened[kind] = opened.get(kind, 0) + _stop(attacker)
    return {
        kind: {
            "connections": opened.get(kind, 0),
            "p50_ms": median([run.p50_ms for run in each]),
            "p99_ms": min(run.p99_ms for run in each),
            "p99_median_ms": median([run.p99_ms for run in each]),
            "server_cpu_us": min(run.server_cpu_us for run in each),
        }
        for kind, each in runs.items()
    }


def bars_of(figures: dict[str, Any]) -> list[Bar]:
    """Compare each attack with the time before it, in the same run."""
    alone, bars = figures[ALONE], []
    for kind in KINDS:
        name, under = kind.replace("_", " "), figures[kind]
        bars.append(
            Bar(f"p50 of an honest poll beside {name}, of that alone",
                under["p50_ms"] / alone["p50_ms"], BAR_P50_RATIO, is_least=False, unit="x")
        )  # fmt: skip
        bars.append(
            Bar(f"p99 of an honest poll beside {name}, above that alone",
                max(0.0, under["p99_ms"] - alone["p99_ms"]), BAR_P99_MORE_MS,
                is_least=False, unit=" ms")
        )  # fmt: skip
    return bars


def _stop(attacker: Assistant) -> int:
    return int(attacker.ask("stop")["opened"])


def _poll(port: int, number: int) -> bytes:
    ask = {"Accept": "application/json", "Authorization": f"Bearer {token_text(number)}"}
    answer = probe(port, get(config_path(number), port, **ask))
    head = answer.split(b"\r\n\r\n", 1)[0].decode().lower()
    etag = next(line[6:] for line in head.splitlines() if line.startswith("etag: "))
    named = {"Tidegate_Instance": f"honest-{number}", "Tidegate_Applied": etag}
    return get(config_path(number), port, If_None_Match=etag, **ask, **named)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    options = parser.parse_args()
    raise_files_limit()
    pin(CLIENT_CORE)
    with installation() as here:
        here.operator.ask("fill", services=SERVICES, dependencies=2)
        with here.delivery() as server:
            figures = measure(here, server, options.rounds, options.seconds)
    print_table(
        f"{PER_S:,} polls a second, offered evenly; latency from when each was due",
        ("beside", "connections", "p50 ms", "p99 ms", "p99 ms, median", "server CPU µs"),
        [(kind.replace("_", " "), *each.values()) for kind, each in figures.items()],
    )
    bars = bars_of(figures)
    is_met = print_bars(bars)
    write_result("hostile", {"beside": figures, "bars": [bar.as_document() for bar in bars]})
    raise SystemExit(0 if is_met else 1)


if __name__ == "__main__":
    main()

"""What an instance costs while nothing changes: 5,000 of them, by poll, long-poll and stream.

    python benchmarks/quiet.py [--instances 5000] [--seconds 15]

Nearly all the time nothing changes, so this is what sizes a fleet: processor time of a delivery
node per exchange, all included: the answer, what is noted about the instance, and the batches that
write it into the database (SQLite here). Polls come every 5 s, so that each is noted; a long-poll
waits 10 s; a stream has a heartbeat every 15 s.

Prints a table, writes benchmarks/results/quiet.json. There are no bars.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fanout import LONG_POLL, STREAM, TOKENS, settle
from benchmarks.harness.assistants import assistant
from benchmarks.harness.installation import Installation, installation
from benchmarks.harness.load import probe
from benchmarks.harness.machine import CLIENT_CORE, cpu_s, pin, raise_files_limit, write_result
from benchmarks.harness.names import config_path, token_text
from benchmarks.harness.rivals import get
from benchmarks.harness.tables import print_table

POLL = "poll"
SERVICES = 100
POLL_EVERY_S = 5.0
WAIT_S = 10


def measure(here: Installation, transport: str, instances: int, seconds: float) -> dict[str, Any]:
    """Connect the instances, let time pass, and see what the server used for what was exchanged."""
    with here.delivery() as server, assistant("benchmarks.harness.waiters") as waiters:
        etags = _etags(server.port)
        requests = [
            get(
                config_path(number % SERVICES),
                server.port,
                Authorization=_bearer(number % SERVICES, number // SERVICES % TOKENS),
                Tidegate_Instance=f"instance-{number}",
                **_wanted(transport, etags[number % SERVICES]),
            ).decode()
            for number in range(instances)
        ]
        if transport == POLL:
            waiters.ask("pause")
        waiters.ask(
            "connect",
            port=server.port,
            requests=requests,
            etag="",
            end="\n\n" if transport == STREAM else "",
            is_prompt=False,
        )
        settle(server.pid)
        before = cpu_s(server.pid)
        passed = waiters.ask(
            "quiet", seconds=seconds, interval_s=POLL_EVERY_S if transport == POLL else 0
        )
        used_s = cpu_s(server.pid) - before
    if passed["wrong"]:
        raise SystemExit(f"{transport}: an instance was answered {passed['wrong']}")
    exchanges = passed["heartbeats"] if transport == STREAM else passed["unchanged"]
    return {
        "exchanges": exchanges,
        "node_cpu_us": round(used_s / exchanges * 1e6, 1),
        "core_share": round(used_s / seconds, 3),
    }


def _wanted(transport: str, etag: str) -> dict[str, str]:
    if transport == STREAM:
        return {"Accept": "text/event-stream"}
    known = {"If_None_Match": etag, "Tidegate_Applied": etag}
    return known | ({"Prefer": f"wait={WAIT_S}"} if transport == LONG_POLL else {})


def _bearer(number: int, copy: int = 0) -> str:
    return f"Bearer {token_text(number, copy)}"


def _etags(port: int) -> list[str]:
    found = []
    for number in range(SERVICES):
        bearer = {"Authorization": _bearer(number)}
        answer = probe(port, get(config_path(number), port, **bearer))
        found.append(answer.split(b"etag: ", 1)[1].split(b"\r\n", 1)[0].decode())
    return found


def main() -> None:
    """Measure each transport."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--instances", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    pin(CLIENT_CORE)
    raise_files_limit()
    with installation(TIDEGATE_MAX_PARKED_POLLS="20000") as here:
        here.operator.ask("fill", services=SERVICES, dependencies=2, tokens_each=TOKENS)
        figures = {
            transport: measure(here, transport, options.instances, options.seconds)
            for transport in (POLL, LONG_POLL, STREAM)
        }
    print_table(
        f"{options.instances:,} instances for {options.seconds:g} s while nothing changes",
        ("transport", "exchanges", "node CPU µs each", "share of a core"),
        [(name, *row.values()) for name, row in figures.items()],
    )
    write_result(
        "quiet",
        {
            "instances": options.instances,
            "seconds": options.seconds,
            "poll_every_s": POLL_EVERY_S,
            "wait_s": WAIT_S,
            "figures": figures,
        },
    )


if __name__ == "__main__":
    main()

"""What one poll, one report and one look cost: bytes on the wire, statements, database time.

    python benchmarks/costs.py

The units of docs/scale.md that the other benchmarks do not measure: bytes of each transport; what
writing down that an instance was seen, or applied a publication, costs a delivery node and its
database, on SQLite and on PostgreSQL; how many statements a look at the database is.

Prints a table, writes benchmarks/results/costs.json. There are no bars.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.installation import Installation, installation
from benchmarks.harness.load import probe
from benchmarks.harness.machine import CLIENT_CORE, cpu_s, pin, write_result
from benchmarks.harness.names import config_path, token_text
from benchmarks.harness.processes import Server, free_port
from benchmarks.harness.rivals import get
from benchmarks.harness.tables import print_table
from tests.databases.postgres import Postgres

INSTANCES = 4_000
ROUNDS = 4
DEPENDENCIES = 7


def wire_bytes(here: Installation) -> dict[str, int]:
    """Bytes that each exchange of one instance puts on the wire, without TCP's and IP's own."""
    with here.delivery() as server:
        full = _exchange(server, {})
        known = {"If_None_Match": full["etag"], "Tidegate_Applied": full["etag"]}
        packed = {
            coding: _exchange(server, {"Accept_Encoding": coding})["answer"]
            for coding in ("gzip", "br")
        }
        unchanged = _exchange(server, known)
        waiting = _exchange(server, known | {"Prefer": "wait=30"}, is_answered=False)
        stream = _stream(server)
        return {
            "request_304": unchanged["request"],
            "answer_304": unchanged["answer"],
            "request_wait": waiting["request"],
            "request_200": full["request"],
            "answer_200": full["answer"],
            "answer_200_gzip": packed["gzip"],
            "answer_200_br": packed["br"],
            **stream,
        }


def _exchange(server: Server, more: dict[str, str], *, is_answered: bool = True) -> dict[str, Any]:
    request = _request(server, **more)
    if not is_answered:
        return {"request": len(request)}
    answer = probe(server.port, request)
    etag = answer.split(b"etag: ", 1)[1].split(b"\r\n", 1)[0].decode()
    return {"request": len(request), "answer": len(answer), "etag": etag}


def _request(server: Server, **more: str) -> bytes:
    headers = {
        "Accept": "application/json",
        "User_Agent": "tidegate-python/0.1",
        "Authorization": f"Bearer {token_text(0)}",
        "Tidegate_Instance": "checkout-7f9c6d5b4-x2x9z",
    }
    return get(config_path(0), server.port, **(headers | more))


def _stream(server: Server) -> dict[str, int]:
    """Open a stream without knowing anything, and read until its first event is complete."""
    request = _request(server, Accept="text/event-stream")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        data = b""
        while b"data: " not in data or not data.endswith(b"\n\n"):
            more = connection.recv(65_536)
            if not more:
                raise SystemExit(f"a stream ended without an event: {data[:300]!r}")
            data += more
    event_at = data.index(b"event: config")
    return {"request_stream": len(request), "stream_head": event_at, "event": len(data) - event_at}


def report_costs(here: Installation, database_pid: int | None) -> dict[str, dict[str, float]]:
    """What one note costs: seen again, and a publication fetched and applied."""
    costs = {}
    for kind, answers in (("seen", False), ("applied", True)):
        before = cpu_s(database_pid) if database_pid else 0.0
        cost = here.operator.ask("reports", instances=INSTANCES, answers=answers, rounds=ROUNDS)
        if database_pid:
            used_s = cpu_s(database_pid) - before
            # The first round of all only makes rows, at about the price of the others.
            cost["database_cpu_us"] = round(used_s / INSTANCES / (ROUNDS + 1) * 1e6, 2)
        costs[kind] = cost
    return costs


@contextlib.contextmanager
def postgres() -> Iterator[tuple[str, int]]:
    """Run a PostgreSQL until the block ends; yield its address and the process ID."""
    server = Postgres(host="127.0.0.1", port=free_port())
    try:
        yield server.url, server.pid
    finally:
        server.close()


def main() -> None:
    """Measure, print, keep."""
    pin(CLIENT_CORE)
    with installation() as here:
        here.operator.ask("fill", services=100, dependencies=DEPENDENCIES)
        result: dict[str, Any] = {
            "bytes": wire_bytes(here),
            "looks": here.operator.ask("looks"),
            "reports": {"sqlite": report_costs(here, None)},
        }
    with postgres() as (url, pid), installation(TIDEGATE_DATABASE_URL=url) as here:
        here.operator.ask("fill", services=100, dependencies=DEPENDENCIES)
        result["reports"]["postgresql"] = report_costs(here, pid)
    print_table("bytes of one exchange", ("what", "bytes"), list(result["bytes"].items()))
    print_table(
        "one note about one instance, in batches of 2,000: µs",
        ("database, note", "clock", "node CPU", "database CPU", "statements/1,000"),
        [
            (f"{database}, {kind}", cost["clock_us"], cost["cpu_us"],
             cost.get("database_cpu_us"), cost["statements_per_1000"])
            for database, kinds in result["reports"].items()
            for kind, cost in kinds.items()
        ],
    )  # fmt: skip
    print(f"\nstatements of a look at the database: {result['looks']['idle']} when nothing is new, "
          f"{result['looks']['news']} when something is")  # fmt: skip
    write_result("costs", result)


if __name__ == "__main__":
    main()

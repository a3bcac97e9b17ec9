"""From the commit of a publication to the last of 1,000, 5,000 and 10,000 parked instances.

    python benchmarks/fanout.py [--rounds 3] [--counts 1000,5000,10000]

One delivery process on a real database and Valkey; another process publishes through the same
service as the Tune page. The clock starts when the database has committed and stops, for each
instance, when it has read the complete policy: hint, feed, swap, wake-up, body. By long-poll and by
stream, all instances on one service (the worst case). Beside it in the same run: a bare uvicorn
application whose waiters wait for an event in memory, and etcd's watches at 1,000.

Prints a table and bars, writes benchmarks/results/fanout.json; a missed bar is exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.assistants import Assistant, assistant
from benchmarks.harness.installation import Installation, installation
from benchmarks.harness.load import probe
from benchmarks.harness.machine import (
    CLIENT_CORE,
    cpu_s,
    median,
    pin,
    quantile,
    raise_files_limit,
    rss_kb,
    write_result,
)
from benchmarks.harness.names import config_path, token_text
from benchmarks.harness.processes import Server
from benchmarks.harness.rivals import (
    bare_server,
    coded,
    etcd_put,
    etcd_server,
    find_missing,
    find_program,
    get,
    post_json,
)
from benchmarks.harness.tables import Bar, print_bars, print_table

SERVICES = 1_000
TOKENS = 10  # that the instances of the one service share: each has its own rate limit
COUNTS = (1_000, 5_000, 10_000)
BARS_MS = {5_000: 250.0, 10_000: 500.0}
BAR_KB = 20.0
WITHIN_S = 20.0
ETCD_WATCHES = 1_000
LONG_POLL, STREAM = "long-poll", "stream"
TRANSPORTS = (LONG_POLL, STREAM)

Publish = Callable[[int], int]
"""Publishes round `n`; returns when it was committed, in ns of the clock that processes share."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one server did for one number of parked instances: medians over the rounds."""

    server: str
    transport: str
    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    best_p99_ms: float
    kb_each: float
    server_cpu_us_each: float


@dataclass(frozen=True, slots=True)
class Target:
    """A server with waiters to be, and how to wake them."""

    name: str
    transport: str
    server: Server
    requests: list[str]
    etag: str
    end: str
    publish: Publish
    marker: Callable[[int], str]
    is_prompt: bool = False


def settle(pid: int, within_s: float = 30.0) -> None:
    """Wait until a server has nothing left to do: all are parked, all reports are written."""
    deadline = time.monotonic() + within_s
    calm = 0
    while calm < 2:
        before = cpu_s(pid)
        time.sleep(0.2)
        calm = calm + 1 if cpu_s(pid) - before <= 0.02 else 0
        if time.monotonic() > deadline:
            raise SystemExit("a server did not come to rest within 30 s")


def measure(target: Target, rounds: int) -> Row:
    """Park the instances, publish some times, and see when each has the policy."""
    count, pid = len(target.requests), target.server.pid
    settle(pid)
    empty_kb = rss_kb(pid)
    with assistant("benchmarks.harness.waiters") as waiters:
        waiters.ask(
            "connect",
            port=target.server.port,
            requests=target.requests,
            etag=target.etag,
            end=target.end,
            is_prompt=target.is_prompt,
        )
        settle(pid)
        kb_each = (rss_kb(pid) - empty_kb) / count
        took, used_s = [], []
        for number in range(1, rounds + 1):
            before = cpu_s(pid)
            took.append(_round(target, waiters, number, count))
            used_s.append(cpu_s(pid) - before)
            settle(pid)
            if not target.end:
                waiters.ask("again")
                settle(pid)
    p99s = [quantile(of_round, 0.99) for of_round in took]
    return Row(
        server=target.name,
        transport=target.transport,
        count=count,
        p50_ms=round(median([quantile(of_round, 0.5) for of_round in took]), 2),
        p99_ms=round(median(p99s), 2),
        max_ms=round(median([max(of_round) for of_round in took]), 2),
        best_p99_ms=round(min(p99s), 2),
        kb_each=round(kb_each, 2),
        server_cpu_us_each=round(median(used_s) / count * 1e6, 1),
    )


def _round(target: Target, waiters: Assistant, number: int, count: int) -> list[float]:
    waiters.ask("arm", marker=target.marker(number))
    committed_ns = target.publish(number)
    result = waiters.ask("result", within_s=WITHIN_S)
    answered = result["answered_ns"]
    if len(answered) != count or result["lost"]:
        raise SystemExit(
            f"{target.name}, {target.transport}: {len(answered)} of {count} instances have the "
            f"policy after {WITHIN_S:g} s, {result['lost']} connections were lost; "
            f"wrong answer: {result['wrong'] or 'none'}"
        )
    return [(at_ns - committed_ns) / 1e6 for at_ns in answered]


@contextlib.contextmanager
def ours(here: Installation, transport: str, count: int, *, is_prompt: bool) -> Iterator[Target]:
    """A fresh delivery process with its instances."""
    with here.delivery() as server:
        answer = probe(server.port, get(config_path(0), server.port,
                                        Authorization=f"Bearer {token_text(0)}"))  # fmt: skip
        etag = answer.split(b"etag: ", 1)[1].split(b"\r\n", 1)[0].decode()
        wanted = {"Accept": "text/event-stream"} if transport == STREAM else {
            "Accept": "application/json", "Prefer": "wait=60", "If-None-Match": "{etag}",
            "Tidegate-Applied": "{etag}",
        }  # fmt: skip
        requests = [
            get(
                config_path(0),
                server.port,
                Authorization=f"Bearer {token_text(0, number % TOKENS)}",
                User_Agent="tidegate-python/0.1",
                Tidegate_Instance=f"instance-{number}",
                **wanted,
            ).decode()
            for number in range(count)
        ]
        # Another deadline each time: a publication that changes nothing would prove nothing.
        base_ms = next(_bases_ms)

        def publish(number: int) -> int:
            done = here.operator.ask("publish", service=0, deadline_ms=base_ms + number)
            return int(done["committed_ns"])

        yield Target(
            name="tidegate, each asks again at once" if is_prompt else "tidegate",
            transport=transport,
            server=server,
            requests=requests,
            etag=etag,
            end="\n\n" if transport == STREAM else "",
            publish=publish,
            marker=lambda number: f'"deadline_ms":{base_ms + number}',
            is_prompt=is_prompt,
        )


_bases_ms = itertools.count(2_000, 100)


@contextlib.contextmanager
def bare(body: bytes, transport: str, count: int) -> Iterator[Target]:
    """A bare application under uvicorn whose waiters wait for an event in memory."""
    with bare_server(body, waiters=True) as server:
        accept = "text/event-stream" if transport == STREAM else "application/json"
        request = get("/", server.port, Accept=accept).decode()
        wake = b"POST /wake HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        yield Target(
            name="bare uvicorn, event in memory",
            transport=transport,
            server=server,
            requests=[request] * count,
            etag="",
            end="\n\n" if transport == STREAM else "",
            publish=lambda number: int(probe(server.port, wake).split(b"\r\n\r\n")[1]),
            marker=lambda number: '"policy":',
        )


@contextlib.contextmanager
def etcd_watches(body: bytes, count: int) -> Iterator[Target]:
    """An etcd node with a watch per instance on one key; the clock starts with its put."""
    with etcd_server() as server:
        key = coded(b"/config/0")
        watch = post_json("/v3/watch", server.port, {"create_request": {"key": key}}).decode()

        def value(number: int) -> bytes:
            return b"%09d" % number + body

        def put(number: int) -> int:
            started_ns = time.monotonic_ns()
            etcd_put(server.port, "/config/0", value(number))
            return started_ns

        yield Target(
            name="etcd watch",
            transport=STREAM,
            server=server,
            requests=[watch] * count,
            etag="",
            end="\n",
            publish=put,
            marker=lambda number: coded(value(number)[:9]),
        )


def compare(here: Installation, counts: list[int], rounds: int) -> list[Row]:
    """Measure each server with each number of instances, the same number one after the other."""
    with here.delivery() as server:
        body = probe(server.port, get(config_path(0), server.port,
                                      Authorization=f"Bearer {token_text(0)}"))  # fmt: skip
    body = body.split(b"\r\n\r\n", 1)[1]
    rows = []
    for count in counts:
        for transport in TRANSPORTS:
            targets = [
                ours(here, transport, count, is_prompt=False),
                bare(body, transport, count),
            ]
            if transport == LONG_POLL:
                targets.append(ours(here, transport, count, is_prompt=True))
            for each in targets:
                with each as target:
                    rows.append(measure(target, rounds))
                    print(".", end="", flush=True)
    if find_program("etcd"):
        with etcd_watches(body, min(ETCD_WATCHES, max(counts))) as target:
            rows.append(measure(target, rounds))
    return rows


def bars(rows: list[Row]) -> list[Bar]:
    """What the table is held to; best rounds are not chosen: the median round must do."""
    found = []
    for row in rows:
        if row.server != "tidegate":
            continue
        if row.count in BARS_MS:
            text = f"p99 from commit, {row.count:,} by {row.transport}"
            found.append(Bar(text, row.p99_ms, BARS_MS[row.count], is_least=False, unit=" ms"))
        text = f"server memory per parked {row.transport} of {row.count:,}"
        found.append(Bar(text, row.kb_each, BAR_KB, is_least=False, unit=" KB"))
    return found


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)))
    options = parser.parse_args()
    counts = [int(count) for count in options.counts.split(",")]
    pin(CLIENT_CORE)
    files = raise_files_limit()
    if files < max(counts) + 1_000:
        raise SystemExit(f"{max(counts):,} instances need more than the {files:,} open files "
                         "that this user may have: raise `ulimit -n`")  # fmt: skip
    with installation(TIDEGATE_MAX_PARKED_POLLS="20000") as here:
        here.operator.ask("fill", services=SERVICES, dependencies=0, tokens_of_first=TOKENS)
        rows = compare(here, counts, options.rounds)
    print_table(
        "from the commit until an instance has read the whole policy: medians of "
        f"{options.rounds} publications; memory without the kernel's socket buffers",
        ("server", "p50 ms", "p99 ms", "max ms", "best p99", "KB each", "CPU µs each", "by"),
        [
            (f"{row.server}, {row.count:,}", row.p50_ms, row.p99_ms, row.max_ms, row.best_p99_ms,
             row.kb_each, row.server_cpu_us_each, row.transport)
            for row in rows
        ],
    )  # fmt: skip
    for missing in find_missing("etcd"):
        print(missing)
    judged = bars(rows)
    met = print_bars(judged)
    write_result(
        "fanout",
        {
            "rounds": options.rounds,
            "services": SERVICES,
            "rows": [asdict(row) for row in rows],
            "bars": [bar.as_document() for bar in judged],
        },
    )
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()

"""A poll answering 304: the hot path, beside a bare ASGI callable and a DRF view.

`python benchmarks/hotpath.py` starts each candidate as its own process under uvicorn (httptools
and uvloop), pinned to one core, and loads them in turn from a second process on another core:
A, B, A, B, so that whatever else the machine does meets all of them alike. It prints the ratios of
the best runs, beside the median of neighbouring ones, and writes benchmarks/results/hotpath.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

BAR_BARE = 0.8
BAR_DRF = 20.0
TOKEN = "tgs_" + "b" * 43
PATH = "/config/v1/prod/service-007"
ETAG = '"7-0-5ca1ab1e"'
SERVICES = 1_000  # look-ups hit a full table, as they would in a large fleet
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sample:
    """One run against one candidate."""

    per_s: float
    cpu_us: float


# --- candidates: each returns an ASGI application -------------------------------------------


def bare_app() -> Any:
    """The least an ASGI application can do: the same 304, whatever was asked."""
    headers = (
        (b"etag", ETAG.encode()),
        (b"tidegate-sequence", b"7"),
        (b"cache-control", b"no-store"),
        (b"vary", b"Authorization, Prefer"),
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return app


def headerless_app() -> Any:
    """A 304 without any header: not a correct answer, but the floor of the server itself."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 304, "headers": ()})
        await send({"type": "http.response.body", "body": b""})

    return app


def hotpath_app() -> Any:
    """The config API with 1,000 services, a token for each, limits and reports on."""
    from hashlib import sha256

    from controlplane.delivery.domain.compile import compile_snapshot
    from controlplane.delivery.domain.snapshot import PublishedPolicy, ScheduledPolicy
    from controlplane.delivery.hotpath.app import ConfigApp
    from controlplane.delivery.hotpath.auth import RateLimit, TokenRecord, TokenTable
    from controlplane.delivery.hotpath.reports import ReportBuffer
    from controlplane.delivery.hotpath.store import SnapshotStore

    store, tokens = SnapshotStore(time.time), TokenTable()
    now = datetime.now(UTC)
    records = []
    for number in range(1, SERVICES + 1):
        later = ScheduledPolicy(
            now + timedelta(hours=1), "override ends", f"{number}-1-5ca1ab1e", {}
        )
        service, etag = f"service-{number:03}", f"{number}-0-5ca1ab1e"
        store.swap(
            compile_snapshot(
                PublishedPolicy("prod", service, 1, number, etag, now, {"inbound": {}}, (later,))
            )
        )
        text = TOKEN if number == 7 else f"tgs_{number:043}"
        records.append(TokenRecord(sha256(text.encode()).hexdigest(), "prod", service))
    tokens.replace(records)
    store.is_loaded = True
    # The limit is on as in production; only its number is out of the way of one token that
    # stands for a whole fleet.
    limit = RateLimit(per_s=1e6, burst=1_000_000)
    return ConfigApp(store, tokens, ReportBuffer(), limit=limit)


def drf_app() -> Any:
    """The same job as a DRF view on SQLite, without any middleware."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "controlplane.project.settings.test"
    import django
    from django.conf import settings

    settings.MIDDLEWARE = []
    settings.ROOT_URLCONF = "benchmarks.hotpath_drf"
    django.setup()
    from django.core.asgi import get_asgi_application

    from benchmarks.hotpath_drf import fill_database

    fill_database(token=TOKEN, etag=ETAG.strip('"'), services=SERVICES)
    return get_asgi_application()


CANDIDATES = {
    "bare": bare_app,
    "headerless": headerless_app,
    "hotpath": hotpath_app,
    "drf": drf_app,
}


def serve(candidate: str) -> None:
    """Serve one candidate on a free port until killed; print the port when it listens."""
    import uvicorn

    pin(0)
    app = CANDIDATES[candidate]()
    gc.collect()
    gc.freeze()  # as controlplane.project.serve does
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(
        app, http="httptools", loop="uvloop", lifespan="off", access_log=False, log_level="error",
        server_header=False,
    )  # fmt: skip
    print(listener.getsockname()[1], flush=True)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(uvicorn.Server(config).serve([listener]))


# --- load -----------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it has its answer."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        """Send the first request."""
        self.transport = transport
        transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        """Count a complete answer and send the next request."""
        if self.buffer:
            data = self.buffer + data
        if not data.endswith(b"\r\n\r\n"):
            self.buffer = data
            return
        self.buffer = b""
        if not data.startswith(b"HTTP/1.1 304 "):
            self.load.fail(data)
            return
        self.load.count += 1
        if not self.load.is_over:
            self.transport.write(self.load.request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Void the run when the server hangs up in the middle of it."""
        if not self.load.is_over:
            self.load.fail(b"connection closed")


class Load:
    """Many connections to one port, and how many answers they got."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.count = 0
        self.is_over = False
        self.failure: bytes | None = None

    def fail(self, data: bytes) -> None:
        """Remember the first wrong answer; the run is void."""
        self.failure = self.failure or data


async def load_for(port: int, seconds: float, connections: int) -> tuple[Load, float]:
    """Poll for about `seconds`; return the load and its answers per second."""
    loop = asyncio.get_running_loop()
    load = Load(poll_request(port))
    transports = [
        (await loop.create_connection(lambda: Connection(load), "127.0.0.1", port))[0]
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds / 5)
    before, started = load.count, time.perf_counter()
    await asyncio.sleep(seconds)
    per_s = (load.count - before) / (time.perf_counter() - started)
    load.is_over = True
    for transport in transports:
        transport.close()
    if load.failure is not None:
        raise SystemExit(f"a poll was not answered 304: {load.failure[:300]!r}")
    return load, per_s


def poll_request(port: int) -> bytes:
    """What the SDK sends when it polls."""
    return (
        f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Accept: application/json\r\nUser-Agent: tidegate-python/0.1\r\n"
        f"Authorization: Bearer {TOKEN}\r\nIf-None-Match: {ETAG}\r\n"
        f"Tidegate-Instance: service-007-1-9f3c\r\nTidegate-Applied: {ETAG}\r\n\r\n"
    ).encode()


# --- the run --------------------------------------------------------------------------------


def pin(core: int) -> None:
    """Stay on one core, where the machine has several and lets us."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core % len(cores)]})


@contextlib.contextmanager
def server(candidate: str) -> Iterator[tuple[int, int]]:
    """Run one candidate as a process; yield its port and process ID."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        env = {**os.environ, "TIDEGATE_STATE_DIR": folder}
        env["TIDEGATE_DATABASE_URL"] = f"sqlite:///{folder}/db.sqlite3"
        process = subprocess.Popen(
            [sys.executable, __file__, "--serve", candidate],
            env=env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{candidate} did not start")
            yield int(line), process.pid
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()


def measure(candidate: tuple[int, int], seconds: float, connections: int) -> Sample:
    """Load one server for a while and return its rate and its cost."""
    port, pid = candidate
    before = _cpu_s(pid)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load, per_s = runner.run(load_for(port, seconds, connections))
    return Sample(per_s=max(per_s, 1e-9), cpu_us=(_cpu_s(pid) - before) / max(load.count, 1) * 1e6)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def compare(rounds: int, seconds: float, connections: int) -> dict[str, Any]:
    """Measure every candidate in turn, round by round, and relate the hot path to the others."""
    samples: dict[str, list[Sample]] = {name: [] for name in CANDIDATES}
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(server(name)) for name in CANDIDATES}
        for target in servers.values():
            measure(target, 0.5, connections)
        for number in range(rounds):
            # Every other round the other way round, so that drift favours nobody.
            order = list(CANDIDATES)[:: 1 if number % 2 == 0 else -1]
            for name in order:
                samples[name].append(measure(servers[name], seconds, connections))
    return {
        "candidates": {
            name: {
                "best_per_s": round(max(run.per_s for run in runs)),
                "median_per_s": round(statistics.median(run.per_s for run in runs)),
                "best_server_cpu_us": round(min(run.cpu_us for run in runs), 2),
            }
            for name, runs in samples.items()
        },
        "of_bare_ratio": _ratio(samples["hotpath"], samples["bare"]),
        "of_bare_median_ratio": _median_ratio(samples["hotpath"], samples["bare"]),
        "of_headerless_ratio": _ratio(samples["hotpath"], samples["headerless"]),
        "times_drf_ratio": _ratio(samples["hotpath"], samples["drf"]),
    }


def _ratio(ours: list[Sample], theirs: list[Sample]) -> float:
    """Relate the best runs: what else the machine does can only make a run slower."""
    return round(max(run.per_s for run in ours) / max(run.per_s for run in theirs), 3)


def _median_ratio(ours: list[Sample], theirs: list[Sample]) -> float:
    pairs = zip(ours, theirs, strict=True)
    return round(statistics.median(one.per_s / other.per_s for one, other in pairs), 3)


def report(result: dict[str, Any]) -> bool:
    """Print the result beside its bars; say whether both are met."""
    print(f"{'candidate':<12}{'best 304/s':>12}{'median 304/s':>14}{'server CPU µs':>15}")
    for name, figures in result["candidates"].items():
        print(
            f"{name:<12}{figures['best_per_s']:>12,}{figures['median_per_s']:>14,}"
            f"{figures['best_server_cpu_us']:>15.1f}"
        )
    of_bare, times_drf = result["of_bare_ratio"], result["times_drf_ratio"]
    print(f"hot path / bare ASGI callable   {of_bare:.2f}  (bar: at least {BAR_BARE})")
    print(f"  median of neighbouring runs   {result['of_bare_median_ratio']:.2f}  (noisier)")
    print(f"hot path / same without headers {result['of_headerless_ratio']:.2f}  (no bar)")
    print(f"hot path / DRF view             {times_drf:.1f}x  (bar: at least {BAR_DRF:g}x)")
    return bool(of_bare >= BAR_BARE and times_drf >= BAR_DRF)


def main() -> None:
    """Run the comparison, or one of its parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--serve", choices=CANDIDATES, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each run")
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    pin(1)
    result = compare(options.rounds, options.seconds, options.connections)
    met = report(result)
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    (folder / "hotpath.json").write_text(json.dumps(result, indent=2) + "\n")
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()

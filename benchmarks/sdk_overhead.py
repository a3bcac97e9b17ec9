"""What the SDK adds to a request: microseconds in (middleware) and out (transport).

    python benchmarks/sdk_overhead.py [--requests 20000] [--rounds 7]

The same ASGI app is called with and without the middleware, in alternating rounds in one process,
with every protection on: service, endpoint and tenant rate, concurrency, deadline and metrics.
The best round of each counts: noise only ever adds. Prints a table and appends one JSON line to
`benchmarks/results/sdk_overhead.jsonl`.
"""

import argparse
import asyncio
import gc
import importlib
import importlib.util
import inspect
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

from tidegate.asgi import AsgiApp, Message, Receive, Scope, Send
from tidegate.guard import Guard
from tidegate.middleware import TidegateMiddleware
from tidegate.policy import Policy, parse_policy

RESULTS = Path(__file__).parent / "results" / "sdk_overhead.jsonl"
BAR_US = 50.0
AIM_US = 30.0

HEADERS = [
    (b"host", b"checkout.local"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"x-request-id", b"0123456789abcdef0123456789abcdef"),
    (b"x-tenant", b"acme"),
    (b"x-criticality", b"critical"),
    (b"x-request-deadline-ms", b"2500"),
]


def everything_on() -> Policy:
    """Return a policy with every inbound protection on, none of them in the way."""
    rate = {"per_s": 1_000_000, "burst": 1_000_000}
    concurrency = {"max": 200, "queue": {"max": 50, "timeout_ms": 100}}
    return parse_policy(
        {
            "inbound": {
                "deadline_ms": 3000,
                "concurrency": concurrency,
                "rate": rate,
                "tenants": {"default": rate, "named": {"acme": rate}},
                "shedding": {"level": 1, "default_criticality": "critical"},
                "endpoints": {
                    "GET /products/{id}": {
                        "deadline_ms": 2000,
                        "criticality": "critical",
                        "rate": rate,
                        "concurrency": concurrency,
                        "tenants": {"default": rate, "named": {}},
                    },
                    "POST /orders": {"deadline_ms": 3000, "criticality": "critical_plus"},
                },
            },
            "outbound": {"defaults": _OUTBOUND, "dependencies": {}},
            "lifecycle": {"drain": {"not_ready_s": 5, "timeout_s": 30}},
        }
    )


_OUTBOUND = {
    "timeouts": {"connect_ms": 250, "attempt_ms": 1000},
    "retry": {
        "max_attempts": 3,
        "on": ["connect_error", "timeout", "503"],
        "methods": "idempotent",
        "backoff": {"base_ms": 50, "multiplier": 2.0, "max_ms": 2000, "jitter": "full"},
        "budget": {"ratio": 0.10, "min_per_s": 1, "window_s": 10},
    },
    "breaker": {
        "mode": "auto",
        "window": {"kind": "time", "size": 30},
        "min_calls": 20,
        "failure_rate": 0.5,
        "slow_call_ms": 1000,
        "slow_call_rate": 0.8,
        "open_s": 15,
        "half_open_calls": 5,
    },
}


async def bare_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a small JSON body, as the least a handler can do."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


async def measure_inbound(requests: int, rounds: int) -> dict[str, float]:
    """Return microseconds per request without and with the middleware, and the difference."""
    guarded = TidegateMiddleware(bare_app, Guard(everything_on()))
    best = {"without": float("inf"), "with": float("inf")}
    for _ in range(rounds):
        for name, app in (("without", bare_app), ("with", guarded)):
            best[name] = min(best[name], await _round(app, requests))
    return {**best, "added": best["with"] - best["without"]}


async def _round(app: AsgiApp, requests: int) -> float:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        return None

    gc.collect()
    started_s = time.perf_counter()
    for number in range(requests):
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/products/{number}",
            "headers": HEADERS,
        }
        await app(scope, receive, send)
        if number % 50 == 0:
            await asyncio.sleep(0)  # lets the loop tidy its timers, as a server's loop would
    return (time.perf_counter() - started_s) / requests * 1e6


def measure_outbound(requests: int, rounds: int) -> dict[str, float] | None:
    """Return the same of the outbound transport; None where its benchmark is not at hand."""
    found = importlib.util.find_spec("sdk_outbound")
    if found is None:
        return None
    measured = importlib.import_module("sdk_outbound").measure(requests, rounds)
    return dict(asyncio.run(measured) if inspect.iscoroutine(measured) else measured)


def report(results: dict[str, dict[str, float]]) -> None:
    """Print the table and append one JSON line."""
    print(f"{'':10}{'without':>12}{'with':>12}{'added':>12}   microseconds per request")
    for name, row in results.items():
        verdict = "ok" if row["added"] < BAR_US else "OVER"
        figures = "".join(f"{row[column]:>12.2f}" for column in ("without", "with", "added"))
        print(f"{name:10}{figures}   {verdict}: bar {BAR_US:g}, aim {AIM_US:g}")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "bar_us": BAR_US,
        "results": results,
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


def main() -> None:
    """Measure both directions, print the table, append the JSON."""
    parser = argparse.ArgumentParser(description="What the SDK adds to a request.")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    results = {"in": asyncio.run(measure_inbound(options.requests, options.rounds))}
    outbound = measure_outbound(options.requests, options.rounds)
    if outbound is not None:
        results["out"] = outbound
    report(results)


if __name__ == "__main__":
    main()

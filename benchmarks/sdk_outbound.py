"""What the outbound transport adds to a request, in microseconds.

    python benchmarks/sdk_outbound.py [--requests 20000] [--rounds 7]

The same requests go through a transport that answers at once, bare and wrapped, in alternating
rounds in one process. Every protection is on: deadline, context headers, timeouts, retry budget,
breaker, metrics, and the bound on reading the body. The best round of each counts: noise only adds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import AsyncIterator

import httpx

from tidegate import SAFE_DEFAULTS, FixedPolicy, RequestContext, TidegateTransport
from tidegate.context import enter_request, leave_request

BAR_US = 50.0


class Body(httpx.AsyncByteStream):
    """A body that arrives in one piece, as from a socket."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{}"


class Instant(httpx.AsyncBaseTransport):
    """A dependency that costs nothing, so that what remains is the wrapper."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer 200 with a small body."""
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=Body())


async def measure(requests: int = 20_000, rounds: int = 7) -> dict[str, float]:
    """Return microseconds per request without and with the transport, and the difference."""
    bare = Instant()
    wrapped = TidegateTransport(FixedPolicy(SAFE_DEFAULTS), "payments", bare)
    best = {"without": float("inf"), "with": float("inf")}
    for _ in range(rounds):
        for name, transport in (("without", bare), ("with", wrapped)):
            best[name] = min(best[name], await _round(transport, requests))
    return {**best, "added": best["with"] - best["without"]}


async def _round(transport: httpx.AsyncBaseTransport, requests: int) -> float:
    headers = {"accept": "*/*", "accept-encoding": "gzip", "user-agent": "bench", "host": "p"}
    spent_s = 0.0
    gc.collect()
    token = enter_request(RequestContext("req-1", time.monotonic() + 3600.0, tenant="acme"))
    for number in range(requests):
        request = httpx.Request("GET", "http://payments/charges", headers=headers)
        started_s = time.perf_counter()
        response = await transport.handle_async_request(request)
        body = response.stream
        assert isinstance(body, httpx.AsyncByteStream)
        async for _ in body:
            pass
        spent_s += time.perf_counter() - started_s
        if number % 50 == 0:
            await asyncio.sleep(0)  # lets the loop tidy its timers, as a server's loop would
    leave_request(token)
    return spent_s / requests * 1e6


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="What the outbound transport adds to a request.")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    row = asyncio.run(measure(options.requests, options.rounds))
    print(f"{'':10}{'without':>12}{'with':>12}{'added':>12}   microseconds per request")
    verdict = "ok" if row["added"] < BAR_US else "OVER"
    figures = "".join(f"{row[column]:>12.2f}" for column in ("without", "with", "added"))
    print(f"{'out':10}{figures}   {verdict}: bar {BAR_US:g}")


if __name__ == "__main__":
    main()

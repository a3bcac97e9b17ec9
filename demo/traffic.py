"""The load on the demo: who asks for what, how often, and how much it matters.

Open loop: requests leave when they are due, whatever became of those before, because users do
not slow down when a service does. That is what makes overload visible.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from demo.addresses import RoundRobinTransport
from demo.faults import FaultWatch, tenant_factors_of
from demo.fleet import read_addresses
from deploy.local.problems import SetupProblem

BASE_PER_S = 30.0
MOST_PER_S = 1000.0
LOAD_VARIABLE = "DEMO_LOAD_PER_S"
DAY_SWING = 0.2
WAVE_SWING = 0.06
WAVE_PERIOD_S = 420.0
PEAK_HOUR_UTC = 14.0
UNFINISHED_MAX = 400
CLIENT_TIMEOUT_S = 6.0
LOOK_EVERY_S = 0.5
REPORT_EVERY_S = 10.0

TENANT_WEIGHTS = {"acme": 0.40, "globex": 0.25, "initech": 0.15, "umbrella": 0.12, "hooli": 0.08}
CRITICALITY_WEIGHTS = {
    "critical_plus": 0.25, "critical": 0.35, "sheddable_plus": 0.25, "sheddable": 0.15,
}  # fmt: skip
PATH_WEIGHTS = {"orders": 0.34, "products": 0.25, "search": 0.25, "home": 0.16}

log = logging.getLogger("demo.traffic")


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of one user."""

    method: str
    path: str
    tenant: str
    criticality: str


def read_base_per_s(variables: Mapping[str, str]) -> float:
    """Return how many requests a second the usual load has, by DEMO_LOAD_PER_S.

    Raises:
        SetupProblem: it is not a number above 0 and at most 1,000.
    """
    text = variables.get(LOAD_VARIABLE) or str(BASE_PER_S)
    try:
        per_s = float(text)
    except ValueError:
        per_s = 0.0
    if not 0 < per_s <= MOST_PER_S:
        raise SetupProblem(
            f"{LOAD_VARIABLE} is {text!r}; expected requests a second, "
            f"above 0 and at most {MOST_PER_S:,.0f}"
        )
    return per_s


def rate_per_s(unix_s: float, base_per_s: float = BASE_PER_S) -> float:
    """Return the usual arrival rate at an instant: a day's curve, and a slow wave on it."""
    hour = (unix_s % 86_400) / 3600
    day = 1 + DAY_SWING * math.cos(2 * math.pi * (hour - PEAK_HOUR_UTC) / 24)
    wave = 1 + WAVE_SWING * math.sin(2 * math.pi * unix_s / WAVE_PERIOD_S)
    return base_per_s * day * wave


def load_factor(tenant_factors: Mapping[str, float]) -> float:
    """Return how much the whole load grows when some tenants send more than usual."""
    return sum(
        weight * tenant_factors.get(tenant, 1.0) for tenant, weight in TENANT_WEIGHTS.items()
    )


def next_gap_s(per_s: float, chance: random.Random) -> float:
    """Return the time to the next arrival: exponential, so arrivals are a Poisson process."""
    return chance.expovariate(per_s)


def draw_visit(tenant_factors: Mapping[str, float], chance: random.Random) -> Visit:
    """Return one request, drawn from the mix."""
    weights = {
        tenant: weight * tenant_factors.get(tenant, 1.0)
        for tenant, weight in TENANT_WEIGHTS.items()
    }
    tenant = _draw(weights, chance)
    criticality = _draw(CRITICALITY_WEIGHTS, chance)
    article = chance.randint(1, 400)
    method, path = {
        "orders": ("POST", "/orders"),
        "products": ("GET", f"/products/{article}"),
        "search": ("GET", f"/search?q=article+{article % 40}"),
        "home": ("GET", "/"),
    }[_draw(PATH_WEIGHTS, chance)]
    return Visit(method, path, tenant, criticality)


def run(state_dir: Path) -> None:
    """Send load until this process is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with contextlib.suppress(KeyboardInterrupt):
        load = Load(state_dir, random.Random(), read_base_per_s(os.environ))
        asyncio.run(load.send_for_ever())


def front_door(addresses: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return where users knock: at the edge if there is one, else at gateway itself."""
    return addresses.get("edge") or addresses["gateway"]


class Load:
    """Sends visits to the front door and counts their answers."""

    def __init__(
        self, state_dir: Path, chance: random.Random, base_per_s: float = BASE_PER_S
    ) -> None:
        self._chance = chance
        self._base_per_s = base_per_s
        self._watch = FaultWatch(state_dir)
        self._answers: Counter[str] = Counter()
        self._unfinished: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(
            transport=RoundRobinTransport(front_door(read_addresses(state_dir))),
            base_url="http://gateway",
            timeout=CLIENT_TIMEOUT_S,
        )

    async def send_for_ever(self) -> None:
        """Send each visit when it is due."""
        looker = asyncio.create_task(self._look_and_report())
        due_s = time.monotonic()
        try:
            while True:
                factors = tenant_factors_of(self._watch.active)
                usual_per_s = rate_per_s(time.time(), self._base_per_s)
                due_s += next_gap_s(usual_per_s * load_factor(factors), self._chance)
                # After a pause of this process, go on from now instead of sending a burst.
                due_s = max(due_s, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                self._start(draw_visit(factors, self._chance))
        finally:
            looker.cancel()
            await self._client.aclose()

    def _start(self, visit: Visit) -> None:
        if len(self._unfinished) >= UNFINISHED_MAX:
            self._answers["not sent"] += 1
            return
        task = asyncio.create_task(self._send(visit))
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)

    async def _send(self, visit: Visit) -> None:
        headers = {
            "X-Request-ID": uuid.uuid4().hex,
            "X-Tenant": visit.tenant,
            "X-Criticality": visit.criticality,
        }
        if visit.method == "POST":
            headers["Idempotency-Key"] = uuid.uuid4().hex
        try:
            answer = await self._client.request(visit.method, visit.path, headers=headers)
        except httpx.HTTPError as problem:
            self._answers[type(problem).__name__] += 1
        else:
            self._answers[str(answer.status_code)] += 1

    async def _look_and_report(self) -> None:
        reported_s = time.monotonic()
        while True:
            if self._watch.look():
                log.info("incidents: %s", ", ".join(sorted(self._watch.active)) or "none")
            if time.monotonic() - reported_s >= REPORT_EVERY_S:
                reported_s = time.monotonic()
                log.info("answers: %s", dict(sorted(self._answers.items())))
                self._answers.clear()
            await asyncio.sleep(LOOK_EVERY_S)


def _draw(weights: Mapping[str, float], chance: random.Random) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]

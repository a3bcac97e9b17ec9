"""Incidents that can be switched on, and what each does to which service.

Which ones are on is in `faults.json` under the state directory; services and the load generator
look at it twice a second, so an incident needs no restart and no control plane.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

FILE_NAME = "faults.json"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong in one service: extra latency (log-normal), and a share of 500s."""

    extra_median_ms: float = 0.0
    extra_sigma: float = 0.0
    error_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing that can go wrong, by name, with what to look for and what helps."""

    name: str
    summary: str
    what_helps: str
    faults: dict[str, Fault] = field(default_factory=dict)
    tenant_factors: dict[str, float] = field(default_factory=dict)


INCIDENTS: tuple[Incident, ...] = (
    Incident(
        "slow_dependency",
        "fraud answers in 0.8 s instead of 30 ms, and payments waits for it",
        "on payments, shorten the attempt timeout for fraud to 100 ms: charges go on unscored",
        {"fraud": Fault(extra_median_ms=800, extra_sigma=0.3)},
    ),
    Incident(
        "error_burst",
        "45% of inventory's answers are 500",
        "on checkout, lower the breaker's failure rate for inventory to 30%: it opens, and orders "
        "go on without the stock check",
        {"inventory": Fault(error_ratio=0.45)},
    ),
    Incident(
        "retry_storm",
        "payments slows down past checkout's attempt timeout, and checkout tries up to 4 times",
        "on checkout, set the retry budget for payments to 10% and its attempts to 2",
        # Against checkout's attempt timeout of 300 ms about three attempts in four are too late.
        {"payments": Fault(extra_median_ms=320, extra_sigma=0.5)},
    ),
    Incident(
        "hot_tenant",
        "acme sends six times its usual traffic",
        "on gateway, lower the limit of tenant acme",
        tenant_factors={"acme": 6.0},
    ),
)
BY_NAME = {incident.name: incident for incident in INCIDENTS}


class UnknownIncident(Exception):
    """No incident has that name; the text lists those there are."""


def find_incident(name: str) -> Incident:
    """Return the incident of that name.

    Raises:
        UnknownIncident: there is none.
    """
    try:
        return BY_NAME[name]
    except KeyError:
        raise UnknownIncident(
            f"no incident is named {name!r}; there are: {', '.join(BY_NAME)}"
        ) from None


def read_active(state_dir: Path) -> frozenset[str]:
    """Return the incidents that are on; none when the file is missing or not ours to read."""
    try:
        document = json.loads((state_dir / FILE_NAME).read_text())
    except (OSError, ValueError):
        return frozenset()
    names = document.get("active") if isinstance(document, dict) else None
    return frozenset(names or ()) & BY_NAME.keys()


def write_active(state_dir: Path, names: Collection[str]) -> None:
    """Switch exactly these incidents on; every service notices within half a second.

    Raises:
        UnknownIncident: one of them does not exist; nothing changes.
    """
    for name in names:
        find_incident(name)
    path = state_dir / FILE_NAME
    scratch = path.with_suffix(".writing")
    scratch.write_text(json.dumps({"active": sorted(names)}))
    scratch.replace(path)


def fault_of(service: str, active: Collection[str]) -> Fault:
    """Return what is wrong with one service now: latencies add, error ratios combine."""
    faults = [
        incident.faults[service]
        for incident in INCIDENTS
        if incident.name in active and service in incident.faults
    ]
    return Fault(
        extra_median_ms=sum(fault.extra_median_ms for fault in faults),
        extra_sigma=max((fault.extra_sigma for fault in faults), default=0.0),
        error_ratio=1 - math.prod(1 - fault.error_ratio for fault in faults),
    )


def tenant_factors_of(active: Collection[str]) -> dict[str, float]:
    """Return how many times its usual traffic each tenant sends now; 1 when not named."""
    factors: dict[str, float] = {}
    for incident in INCIDENTS:
        if incident.name in active:
            for tenant, factor in incident.tenant_factors.items():
                factors[tenant] = factors.get(tenant, 1.0) * factor
    return factors


def sample_ms(median_ms: float, sigma: float, chance: random.Random) -> float:
    """Return a log-normal duration: half are below the median, a few far above it."""
    return median_ms * math.exp(sigma * chance.gauss(0.0, 1.0)) if median_ms > 0 else 0.0


class FaultWatch:
    """The active incidents as of the last look; looks again when the file has changed."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._changed_at_ns = -1
        self.active: frozenset[str] = frozenset()

    def look(self) -> bool:
        """Read the file if it changed; return whether the active incidents did."""
        try:
            changed_at_ns = (self._state_dir / FILE_NAME).stat().st_mtime_ns
        except OSError:
            changed_at_ns = 0
        if changed_at_ns == self._changed_at_ns:
            return False
        self._changed_at_ns = changed_at_ns
        before, self.active = self.active, read_active(self._state_dir)
        return before != self.active

"""This machine: cores to pin to, what a process costs, and where results are kept."""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
SERVER_CORE, CLIENT_CORE = 0, 1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def pin(core: int) -> None:
    """Stay on one core, where the machine has several and lets us."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def raise_files_limit(wanted: int = 65_536) -> int:
    """Allow as many open files as we may, up to `wanted`; return how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for new_hard in (max(hard, wanted), hard):  # root may raise the hard limit, others not
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, new_hard), new_hard))
        except (OSError, ValueError):
            continue
        break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] or soft


def cpu_s(pid: int) -> float:
    """Return the processor time that a process and its children have used so far."""
    used_s = 0.0
    for each in (pid, *_children(pid)):
        fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        used_s += (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return used_s


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def rss_kb(pid: int) -> int:
    """Return the resident memory of a process in KB; kernel socket buffers are not in it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(f"process {pid} has no memory any more")


def quantile(values: Sequence[float], ratio: float) -> float:
    """Return the smallest value that at least `ratio` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(ratio * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the median; it exists so that callers need not import statistics."""
    return statistics.median(values)


def write_result(name: str, result: Mapping[str, Any]) -> Path:
    """Keep a result as JSON beside what it was measured on; return the file."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "class": f"{os.cpu_count()} cores, {platform.machine()}",
            "python": platform.python_version(),
            "load_1min": round(os.getloadavg()[0], 2),
        },
        **result,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path

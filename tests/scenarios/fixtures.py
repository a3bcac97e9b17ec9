"""One running stack for all scenario and browser tests of a run, handed over calm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from demo.faults import write_active
from demo.fleet import instance_count
from tests.scenarios.stack import Stack, running_stack, wait_until


@pytest.fixture(scope="session")
def whole_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


def parked_polls(stack: Stack) -> float:
    """Return how many instances wait at the config API; 0 while it does not answer."""
    try:
        page = httpx.get(f"{stack.url}/metrics", timeout=5).text
    except httpx.TransportError:
        return 0.0
    found = re.search(r"^tidegate_delivery_parked_connections (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture
def stack(whole_stack: Stack) -> Iterator[Stack]:
    """The stack with no incident on, and no override or canary in force, around the test."""
    wait_until(
        lambda: parked_polls(whole_stack) >= instance_count(),
        within_s=60,
        what="every instance to wait for its next policy",
    )
    yield whole_stack
    write_active(whole_stack.state_dir, frozenset())
    for service in ("checkout", "gateway", "edge"):
        found = whole_stack.api("GET", f"/services/{service}/overrides?environment=prod")
        reverted = found["overrides"]
        for override in reverted:
            whole_stack.api(
                "POST", f"/overrides/{override['id']}/revert", {"reason": "the test is over"}
            )
        canary = f"/services/{service}/canary"
        if whole_stack.api("GET", f"{canary}?environment=prod")["canary"] is not None:
            whole_stack.api("POST", f"{canary}/end", {"reason": "the test is over"})
        if reverted and service != "edge":  # whose Envoy takes seconds, and its tests wait for it
            wait_until(
                partial(is_converged, whole_stack, service),
                what=f"every instance of {service} to have the end of the override",
            )


def is_converged(stack: Stack, service: str) -> bool:
    """Whether every live instance enforces the newest publication."""
    found = stack.api("GET", f"/services/{service}/convergence?environment=prod")
    return bool(found["is_complete"])

"""One running stack for all scenario and browser tests of a run, handed over calm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest

from demo.faults import write_active
from demo.fleet import instance_count
from tests.scenarios.node import Seed, make_seed
from tests.scenarios.stack import Stack, running_stack
from tests.telemetry.prometheus_server import http_server, reply
from tests.waiting import HUNG_S, wait_until

# What tests look at shows at a third of the demo's load, and the cores are shared with others.
LOAD_PER_S = "10"


@pytest.fixture(scope="session")
def node_seed(tmp_path_factory: pytest.TempPathFactory) -> Seed:
    return make_seed(tmp_path_factory.mktemp("seed"))


@pytest.fixture(scope="session")
def whole_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    heard: list[dict[str, Any]] = []

    def receive(handler: BaseHTTPRequestHandler, body: str) -> None:
        heard.extend(json.loads(body)["alerts"])
        reply(handler, 200, "", "text/plain")

    with (
        http_server(receive) as receiver,
        running_stack(
            tmp_path_factory.mktemp("stack"),
            variables={"TIDEGATE_ALERT_WEBHOOK_URL": receiver, "DEMO_LOAD_PER_S": LOAD_PER_S},
        ) as stack,
    ):
        stack.heard = heard
        yield stack


def parked_polls(stack: Stack) -> float:
    """Return how many instances wait at the config API; 0 while it does not answer."""
    try:
        page = httpx.get(f"{stack.url}/metrics", timeout=HUNG_S).text
    except httpx.TransportError:
        return 0.0
    found = re.search(r"^tidegate_delivery_parked_connections (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture
def stack(whole_stack: Stack) -> Iterator[Stack]:
    """The stack with no incident on, and no override or canary in force, around the test."""
    wait_until(
        lambda: parked_polls(whole_stack) >= instance_count(),
        what="every instance to wait for its next policy",
    )
    yield whole_stack
    write_active(whole_stack.state_dir, frozenset())
    if whole_stack.process.poll() is not None:
        return  # the test has ended it
    for service in ("checkout", "gateway", "edge"):
        _calm(whole_stack, service)


def _calm(stack: Stack, service: str) -> None:
    """End what is in force on a service, and wait until its instances have the end."""
    found = stack.api("GET", f"/services/{service}/overrides?environment=prod")
    for override in found["overrides"]:
        stack.api("POST", f"/overrides/{override['id']}/revert", {"reason": "the test is over"})
    canary = f"/services/{service}/canary"
    if stack.api("GET", f"{canary}?environment=prod")["canary"] is not None:
        stack.api("POST", f"{canary}/end", {"reason": "the test is over"})
    if found["overrides"]:
        wait_until(
            lambda: is_converged(stack, service),
            what=f"every instance of {service} to have the end of the override",
        )


def is_converged(stack: Stack, service: str) -> bool:
    """Whether every live instance enforces the newest publication."""
    found = stack.api("GET", f"/services/{service}/convergence?environment=prod")
    return bool(found["is_complete"])

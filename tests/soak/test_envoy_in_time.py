"""How long a published change takes to change what a real Envoy does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.envoy.conftest import Edge, running_edge
from tests.envoy.parts import DOCUMENTED, envoy_path
from tests.soak.figures import Figures

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

TIMES = 5
RUNTIME_S, DISCOVERY_S = 2.0, 3.0


@pytest.fixture(scope="module")
def documented_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    directory = tmp_path_factory.mktemp("envoy")
    with running_edge(envoy_path(), directory, refresh=DOCUMENTED) as edge:
        yield edge


@pytest.fixture
def edge(documented_edge: Edge) -> Iterator[Edge]:
    documented_edge.wait_calm()
    yield documented_edge
    documented_edge.calm()


def sent_after_s(is_so: Callable[[], bool]) -> float:
    """Return how long after now, a publication, the first request was sent that met it."""
    published_s = time.monotonic()
    while True:
        sent_s = time.monotonic()
        if is_so():
            return sent_s - published_s
        assert time.monotonic() - published_s < 60, "hung: Envoy does not follow"


def test_a_shed_level_reaches_envoy_within_2_s(edge: Edge, figures: Figures) -> None:
    took_s = []
    for _ in range(TIMES):
        for level, status in ((3, 503), (0, 200)):
            edge.publish({"inbound": {"shedding": {"level": level}}})
            took_s.append(
                sent_after_s(lambda s=status: httpx.get(edge.url).status_code == s)  # type: ignore[misc]
            )

    figures.check(
        "published to obeyed by Envoy: runtime, worst of ten", max(took_s), "s", at_most=RUNTIME_S
    )


def test_a_deadline_reaches_envoy_within_3_s(edge: Edge, figures: Figures) -> None:
    edge.backend.takes_s = 0.4
    took_s = []
    for _ in range(TIMES):
        for deadline_ms, status in ((150, 504), (10_000, 200)):
            edge.publish({"inbound": {"deadline_ms": deadline_ms}})
            took_s.append(
                sent_after_s(lambda s=status: httpx.get(edge.url).status_code == s)  # type: ignore[misc]
            )

    figures.check(
        "published to obeyed by Envoy: routes, worst of ten", max(took_s), "s", at_most=DISCOVERY_S
    )


def test_a_breaker_ejects_a_host_and_takes_it_back_in_time(edge: Edge, figures: Figures) -> None:
    edge.backend.status = 500
    breaker = {
        "mode": "auto", "min_calls": 4, "failure_rate": 0.5, "open_s": 1,
        "window": {"kind": "count", "size": 4},
    }  # fmt: skip
    gateway = {"Host": "gateway"}

    def status() -> int:
        return httpx.get(edge.envoy.outbound_url, headers=gateway).status_code

    edge.publish({"outbound": {"dependencies": {"gateway": {"breaker": breaker}}}})
    ejected_s = sent_after_s(lambda: status() == 503)
    edge.backend.status = 200
    back_s = sent_after_s(lambda: status() == 200)

    figures.check("published to a host ejected by Envoy", ejected_s, "s", at_most=DISCOVERY_S)
    figures.check("a healthy host to its return, open_s 1", back_s, "s", at_most=5.0)

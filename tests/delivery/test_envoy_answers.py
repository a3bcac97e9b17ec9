"""Answers to Envoys are kept, within bounds of memory and of the time it takes to make them."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest

from controlplane.delivery.hotpath import xds_answers
from controlplane.delivery.hotpath.problems import Answer, Refusal
from controlplane.delivery.hotpath.xds_answers import KeptAnswers
from tests.delivery.builders import Clock
from tests.delivery.envoy_bench import NODE, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_service_whose_nodes_all_differ_pays_with_its_own_time(clock_s: list[float]) -> None:
    wall = Clock()
    answers = KeptAnswers(wall, timer=lambda: clock_s[0])

    def ask(service: str, shape: int) -> Answer | None:
        def make() -> Answer:
            clock_s[0] += 0.4
            return Answer(200, (), b"%d" % shape)

        return answers.get(("prod", service), (service, shape), make)

    for shape in range(3):
        ask("checkout", shape)
    with pytest.raises(Refusal, match="differ in too many ways") as caught:
        ask("checkout", 3)

    assert caught.value.status == 429
    assert (found := ask("checkout", 0)) is not None
    assert found.body == b"0"
    ask("payments", 0)
    wall.pass_s(10.0)
    ask("checkout", 3)


def test_answers_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xds_answers, "MAX_KEPT_BYTES", 5_000)
    answers, made = KeptAnswers(Clock()), []

    def ask(shape: int) -> None:
        answers.get(("prod", "checkout"), shape, lambda: made.append(shape))

    for shape in (0, 1, 2, 3, 4, 5, 5, 0):
        ask(shape)

    assert made == [0, 1, 2, 3, 4, 5, 0]


@pytest.fixture
def clock_s() -> list[float]:
    return [0.0]


def node_with_hosts(number: int) -> dict[str, Any]:
    hosts = [f"10.0.{number}.{host}:8080" for host in range(250)]
    return {**NODE, "metadata": {"tidegate": {"clusters": {"payments": hosts}}}}


@pytest.mark.parametrize("kind", ["runtime", "routes"])
def test_nodes_that_differ_in_their_hosts_only_share_what_has_none(bench: Bench, kind: str) -> None:
    first, second = (bench.ask(kind, node=node_with_hosts(number)) for number in (1, 2))
    bare = bench.ask(kind)

    assert first is second
    assert bare is not first


def test_nodes_that_differ_in_their_hosts_have_clusters_of_their_own(bench: Bench) -> None:
    first, second = (bench.ask("clusters", node=node_with_hosts(number)) for number in (1, 2))

    assert b"10.0.1.7" in first.body
    assert b"10.0.2.7" in second.body


def test_of_a_shape_nothing_is_kept_but_its_answer(bench: Bench) -> None:
    bench.ask("clusters", node=node_with_hosts(0))
    nodes = [node_with_hosts(number) for number in range(1, 5)]
    tracemalloc.start()
    try:
        answered_bytes = sum(len(bench.ask("clusters", node=node).body) for node in nodes)
        gc.collect()
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept_bytes < answered_bytes + 5 * xds_answers.ENTRY_BYTES

"""What is reported of an Envoy: what it enforces, what it refuses, and from when on."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from controlplane.delivery.hotpath.xds_nodes import REFUSED_AFTER, NodeTable
from tests.delivery.envoy_bench import NODE, Bench, refusal


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_version_counts_as_applied_once_every_kind_has_it(bench: Bench) -> None:
    bench.poll()
    (note,) = bench.notes()
    assert [mark.outcome for mark in note.marks] == ["fetched"]

    bench.poll()
    bench.poll()
    (note,) = bench.notes()

    assert [(mark.outcome, mark.etag, mark.sequence) for mark in note.marks] == [
        ("applied", "7-0-9f3c", 7)
    ]
    assert (note.instance_id, note.sdk) == ("checkout-1", "envoy/1.40.0")


def test_a_node_that_is_known_has_applied_a_version_as_soon_as_every_kind_has_it(
    bench: Bench,
) -> None:
    bench.settle()
    bench.publish(8)

    bench.poll()
    assert bench.marks() == []
    bench.poll()

    assert bench.marks() == [("applied", "8-0-9f3c")]


def test_of_a_node_that_is_new_here_nothing_counts_before_all_it_asks_for_was_seen(
    bench: Bench,
) -> None:
    bench.publish(8)  # and start anew, while the node does not take its routes
    for _ in range(9):
        bench.clock.pass_s(0.5)
        bench.ask("runtime", "8-0-9f3c/runtime")
    bench.ask("routes", "7-0-9f3c/routes")
    bench.clock.pass_s(60.0)
    bench.ask("runtime", "8-0-9f3c/runtime")
    assert bench.marks() == []

    for _ in range(REFUSED_AFTER):
        bench.ask("routes", "7-0-9f3c/routes")

    assert bench.marks() == [("applied", "7-0-9f3c"), ("rejected", "8-0-9f3c")]


def test_a_node_that_polls_once_a_minute_is_known_after_three_polls_of_each_kind(
    bench: Bench,
) -> None:
    applied = []
    for _ in range(3):
        bench.clock.pass_s(30.0)
        bench.ask("runtime", "7-0-9f3c/runtime")
        bench.clock.pass_s(30.0)
        bench.ask("routes", "7-0-9f3c/routes")
        applied.append(bench.marks())

    assert applied == [[], [], [("applied", "7-0-9f3c")]]


def test_a_node_that_polls_less_than_every_two_minutes_is_known_after_two(bench: Bench) -> None:
    bench.ask("runtime", "7-0-9f3c/runtime")
    bench.clock.pass_s(121.0)

    bench.ask("runtime", "7-0-9f3c/runtime")

    assert bench.marks() == [("applied", "7-0-9f3c")]


def test_a_clock_that_is_set_back_keeps_no_node_from_being_known(bench: Bench) -> None:
    bench.poll()
    bench.clock.pass_s(-3600.0)

    for _ in range(3):
        bench.poll()

    assert bench.marks() == [("applied", "7-0-9f3c")]


def test_an_answer_that_we_could_not_make_is_none_that_was_refused(bench: Bench) -> None:
    bench.settle()
    bench.publish(8, policy={"inbound": {"deadline_ms": 0}})

    for _ in range(REFUSED_AFTER + 2):
        refusal(bench, "routes", version="7-0-9f3c/routes")

    assert bench.marks() == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("en\x00v\noy\x7f", "envoy/1.40.0"),
        ("\u00e9nvoy\u202e", "nvoy/1.40.0"),
        ("e" * 500, "e" * 120),
    ],
    ids=["control characters", "no ASCII", "long"],
)
def test_the_name_of_an_envoy_is_printable_whatever_it_sends(
    bench: Bench, name: str, shown: str
) -> None:
    bench.ask("runtime", node={**NODE, "user_agent_name": name})

    (note,) = bench.notes()
    assert note.sdk == shown


def test_a_kind_that_is_refused_is_reported_with_its_name(bench: Bench) -> None:
    bench.settle()
    bench.publish(8)

    for _ in range(REFUSED_AFTER):
        bench.poll(refuses="routes")
    assert ("rejected", "8-0-9f3c") not in bench.marks()
    bench.poll(refuses="routes")
    (note,) = bench.notes()

    assert [(mark.outcome, mark.etag) for mark in note.marks] == [
        ("applied", "7-0-9f3c"),
        ("rejected", "8-0-9f3c"),
    ]
    assert note.marks[1].reason.startswith("Envoy does not take the routes: sent 3 times")


def test_a_refusing_node_is_reported_once_and_as_applied_when_it_takes_the_next(
    bench: Bench,
) -> None:
    bench.settle()
    bench.publish(8)
    for _ in range(REFUSED_AFTER + 3):
        bench.poll(refuses="routes")
    assert bench.marks().count(("rejected", "8-0-9f3c")) == 1

    bench.publish(9)
    bench.poll()
    bench.poll()

    marks = bench.marks()
    assert marks[-1] == ("applied", "9-0-9f3c")
    assert ("rejected", "9-0-9f3c") not in marks


def test_a_node_that_never_had_a_version_and_takes_none_is_refusing_too(bench: Bench) -> None:
    for _ in range(REFUSED_AFTER + 1):
        bench.poll(refuses="clusters")

    assert bench.marks() == [("rejected", "7-0-9f3c")]


def test_a_lost_answer_is_no_refusal(bench: Bench) -> None:
    for _ in range(REFUSED_AFTER):
        bench.clock.pass_s(2.0)
        bench.ask("runtime")
    bench.clock.pass_s(2.0)

    bench.ask("runtime", "7-0-9f3c/runtime")

    assert bench.marks() == [("applied", "7-0-9f3c")]


def test_a_kind_that_a_node_no_longer_asks_for_holds_nothing_up(bench: Bench) -> None:
    bench.settle()
    bench.publish(8)

    bench.clock.pass_s(121.0)
    bench.ask("runtime", "8-0-9f3c/runtime")

    assert bench.marks() == [("applied", "8-0-9f3c")]


def test_of_too_many_nodes_the_longest_silent_is_forgotten() -> None:
    table = NodeTable(max_per_service=2)

    def offer(node: bytes) -> bool:
        _, is_new = table.take(
            ("prod", "checkout"), node, "runtime", has=None, etag="7-0-a", kind="runtime",
            is_sent=True, now_unix=0.0,
        )  # fmt: skip
        return is_new

    assert [offer(b"a"), offer(b"b"), offer(b"a"), offer(b"c")] == [True, True, False, True]
    assert offer(b"b") is True
    assert offer(b"c") is False


def test_a_node_that_was_silent_for_long_is_forgotten_with_the_next_request_of_another() -> None:
    table = NodeTable()

    def offer(node: bytes, now_unix: float) -> bool:
        _, is_new = table.take(
            ("prod", "checkout"), node, "runtime", has=None, etag="7-0-a", kind="runtime",
            is_sent=True, now_unix=now_unix,
        )  # fmt: skip
        return is_new

    assert [offer(b"a", 0.0), offer(b"b", 3000.0), offer(b"a", 3300.0)] == [True, True, False]
    assert offer(b"c", 6700.0) is True
    assert [offer(b"a", 6800.0), offer(b"b", 6900.0)] == [False, True]


def test_clusters_are_one_subscription_whatever_names_a_node_asks_for(bench: Bench) -> None:
    for number in range(REFUSED_AFTER + 1):
        bench.ask("clusters", "6-0-9f3c/clusters", resource_names=[f"{number}/outbound"])

    assert ("rejected", "7-0-9f3c") in bench.marks()


@pytest.mark.parametrize(
    "version",
    ["7-0-9f3c/clusters", "7-0-9f3c", "7-0-9f3c/routes/routes", "7" * 200_000 + "/routes"],
    ids=["another kind", "no kind", "two kinds", "endless"],
)
def test_a_version_that_is_none_of_ours_says_nothing(bench: Bench, version: str) -> None:
    for _ in range(REFUSED_AFTER + 1):
        bench.ask("routes", version)

    assert bench.marks() == [("rejected", "7-0-9f3c")]


def test_what_is_kept_of_a_node_does_not_grow_with_what_it_sends(bench: Bench) -> None:
    bench.ask("clusters")
    tracemalloc.start()
    try:
        for number in range(10):
            bench.ask(
                "clusters", "7" * 100_000, resource_names=[f"{number:01000}/outbound"] * 3
            )  # fmt: skip
        gc.collect()
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept_bytes < 10_000

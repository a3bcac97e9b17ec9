"""A client of an adapter that another node served more than this one knows is not sent less."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controlplane.delivery.domain.etags import parse_condition
from controlplane.delivery.hotpath.ofrep import FLAGS, OfrepAdapter
from controlplane.delivery.hotpath.problems import Answer
from controlplane.delivery.hotpath.spring import SpringAdapter
from tests.delivery.adapters import World, complete, header, request, world
from tests.delivery.builders import snapshot
from tests.delivery.envoy_bench import Bench

Ask = Callable[[World, str], Answer]


def all_flags(here: World, tag: str) -> Answer:
    headers = {"if-none-match": tag, "tidegate-instance": "checkout-1"}
    adapter = OfrepAdapter(here.gate, here.reports)
    return adapter.answer(request(FLAGS, method="POST", headers=headers))


def properties(here: World, tag: str) -> Answer:
    return SpringAdapter(here.gate).answer(
        request("/spring/checkout/prod", headers={"if-none-match": tag})
    )


BOTH = pytest.mark.parametrize(
    ("ask", "ending"), [(all_flags, ".ofrep1"), (properties, ".spring1")], ids=["ofrep", "spring"]
)


@BOTH
def test_it_is_told_that_nothing_has_changed_and_the_feed_what_it_has(
    ask: Ask, ending: str
) -> None:
    here = world()

    answer = ask(here, f'W/"9-0-9f3c{ending}"')

    assert (answer.status, answer.body) == (304, b"")
    assert here.store.take_claim() == (9, ("prod", "checkout"))


@BOTH
def test_one_that_holds_less_is_sent_the_present_one_and_claims_nothing(
    ask: Ask, ending: str
) -> None:
    here = world()

    answer = ask(here, f'"6-0-9f3c{ending}"')

    assert (answer.status, header(answer, "etag")) == (200, f'"7-0-9f3c{ending}"')
    assert here.store.take_claim() is None


@BOTH
@pytest.mark.parametrize("tag", ["9-0-9f3c", "9-0-9f3c.other1", "7-0-9f3c", "x"])
def test_what_it_has_in_other_words_is_nothing_here(ask: Ask, ending: str, tag: str) -> None:
    here = world()

    answer = ask(here, f'"{tag}"')

    assert answer.status == 200
    assert here.store.take_claim() is None


@BOTH
def test_a_step_that_the_clock_of_another_node_has_reached_already_is_not_taken_back(
    ask: Ask, ending: str
) -> None:
    here = world()
    later = complete({"inbound": {"shedding": {"level": 1}}})
    here.publish(snapshot(8, policy=complete({}), scheduled=[(2.0, later)]))

    assert ask(here, f'"8-1-9f3c{ending}"').status == 304


def test_what_it_has_from_elsewhere_is_not_reported_as_what_is_in_force_here() -> None:
    here = world()

    all_flags(here, '"9-0-9f3c.ofrep1"')

    (note,) = here.reports.take()
    assert note.marks == []


@pytest.mark.parametrize("kind", ["runtime", "clusters", "routes"])
def test_what_an_envoy_has_from_elsewhere_is_told_to_the_feed(kind: str) -> None:
    bench = Bench()

    assert bench.ask(kind, f"9-0-9f3c/{kind}").status == 304

    assert bench.store.take_claim() == (9, ("prod", "checkout"))


def test_what_an_envoy_has_of_the_same_publication_is_no_claim() -> None:
    bench = Bench()

    assert bench.ask("runtime", "7-1-9f3c/runtime").status == 304

    assert bench.store.take_claim() is None


def test_a_condition_on_tags_with_an_ending_claims_what_those_claim() -> None:
    condition = parse_condition(b'"9-0-a.x1", W/"5-0-b.x1", "17-0-c", "18-0-d.x2"')

    found = condition.on_tags_with(b'.x1"')

    assert found.tags == {b'"9-0-a"', b'"5-0-b"'}
    assert found.highest == 9
    assert parse_condition(b"*").on_tags_with(b'.x1"').is_any

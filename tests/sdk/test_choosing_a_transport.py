"""Streams where they work, long-polls where they do not, polls where nothing is held; and back."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.delivery.builders import VirtualTimeLoop, run_virtually
from tests.sdk.inbound import FakeClock
from tests.sdk.streaming import Answers, Following, OpenStream, event_stream
from tidegate import PolicyClient
from tidegate.ladder import ConfigTransport, Ladder, transports_of


def buffered(request: httpx.Request) -> httpx.Response:
    """The head comes, and then nothing: a proxy keeps the events for itself."""
    return event_stream(OpenStream())


def cut_after_first_byte(request: httpx.Request) -> httpx.Response:
    stream = OpenStream()
    stream.send(b"retry: 1000\n\n")
    stream.cut()
    return event_stream(stream)


def frozen_after_first_byte(request: httpx.Request) -> httpx.Response:
    stream = OpenStream()
    stream.send(b"retry: 1000\n\n")
    return event_stream(stream)


@pytest.mark.parametrize(
    ("on_stream", "within_s"),
    [
        (lambda request: httpx.Response(406), 1),
        (lambda request: httpx.Response(200, json={}, headers={"ETag": '"7-0-aa"'}), 1),
        (lambda request: httpx.Response(304), 1),
        (buffered, 6),
        (cut_after_first_byte, 60),
        (frozen_after_first_byte, 200),
        (lambda request: httpx.Response(502), 60),
    ],
    ids=["406", "json", "304", "buffered", "cut early", "frozen", "bad gateway"],
)
def test_where_streams_do_not_get_through_long_polls_are_used(
    on_stream: Answers, within_s: float
) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop)
        following.plane.on_stream = on_stream
        async with following:
            await asyncio.sleep(within_s)
            assert following.client.transport == "long_poll"
            assert following.plane.kinds().count("stream") <= 12
            assert len(following.plane.kinds()) <= 30

            published_s = loop.time() + 2
            await asyncio.sleep(2)
            following.plane.publish(8, shed_level=2)
            await asyncio.sleep(0.1)
            assert following.applied[-1] == (published_s, 2)

    run_virtually(story)


@pytest.mark.parametrize(
    "on_held",
    [
        lambda request: httpx.Response(304, headers={"ETag": '"7-0-aa"'}),
        lambda request: httpx.Response(504),
    ],
    ids=["at once", "gateway timeout"],
)
def test_where_nothing_is_held_polls_at_the_servers_interval_are_used(on_held: Answers) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop, transport="auto")
        following.plane.on_stream = lambda request: httpx.Response(406)
        following.plane.on_held = on_held
        async with following:
            await asyncio.sleep(120)
            assert following.client.transport == "poll"
            assert len(following.plane.kinds()) < 40

            settled_s = loop.time()
            await asyncio.sleep(100)
            assert following.plane.kinds(since_s=settled_s) == ["short"] * 10

    run_virtually(story)


def test_a_stream_that_works_again_is_found_again() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop)
        following.plane.on_stream = lambda request: httpx.Response(406)
        async with following:
            await asyncio.sleep(60)
            assert following.client.transport == "long_poll"
            following.plane.on_stream = lambda request: None
            await asyncio.sleep(300)

            assert following.client.transport == "stream"
            assert len(following.plane.open_streams) == 1

    run_virtually(story)


def test_a_stream_that_never_works_is_tried_less_and_less_often() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop, wait_s=60.0)  # polls that are held for long are few
        following.plane.on_stream = lambda request: httpx.Response(406)
        async with following:
            await asyncio.sleep(4 * 3600)

            tried = [asked.at_s for asked in following.plane.asked if asked.kind == "stream"]
            gaps = [later - earlier for earlier, later in pairwise(tried)]
            assert gaps == sorted(gaps)
            assert 3 <= len(tried) <= 9

    run_virtually(story)


def test_a_proxy_that_keeps_even_the_head_of_a_stream_is_found_out_at_once() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop)
        following.plane.keeps_heads = True
        async with following:
            await asyncio.sleep(8)

            assert following.client.transport == "long_poll"
            assert following.plane.kinds() == ["short", "short", "stream", "short", "held"]

    run_virtually(story)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"transport": "long_poll"}, {"short", "held"}),
        ({"transport": "poll"}, {"short"}),
        ({"wait_s": 0.0}, {"short"}),
        ({"transport": "stream", "wait_s": 0.0}, {"short", "stream"}),
        ({}, {"short", "stream"}),
    ],
    ids=["long_poll", "poll", "no wait", "stream", "auto"],
)
def test_an_option_chooses_the_transport(options: dict[str, Any], kinds: set[str]) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, **options) as following:
            await asyncio.sleep(200)

            assert set(following.plane.kinds()) == kinds

    run_virtually(story)


def test_where_only_streams_are_allowed_polls_go_between_those_that_fail() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop, transport="stream")
        following.plane.on_stream = lambda request: httpx.Response(406)
        async with following:
            await asyncio.sleep(100)
            following.plane.publish(8, shed_level=1)
            await asyncio.sleep(20)

            assert following.client.transport == "stream"
            assert following.level == 1
            assert len(following.plane.kinds(since_s=60)) < 30

    run_virtually(story)


def test_an_unknown_transport_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="transport: expected one of auto, stream, long_poll, pol"):
        PolicyClient("http://tidegate", "prod", "checkout", "tgs_x", transport="carrier pigeon")


def test_the_transport_in_use_is_a_metric() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop) as following:
            text = following.client.metrics.text()

            assert b'tidegate_config_transport{transport="stream"} 1.0' in text
            assert b'tidegate_config_transport{transport="long_poll"} 0.0' in text

    run_virtually(story)


def climber(*, luck: float = 0.5) -> tuple[Ladder, FakeClock]:
    clock = FakeClock()
    return Ladder(transports_of("auto", 30.0), clock, lambda: luck), clock


def test_failures_while_the_control_plane_is_away_say_nothing_about_the_transport() -> None:
    ladder, clock = climber()

    for _ in range(50):
        ladder.suspect("a stream was cut")
        ladder.unanswered()
        ladder.answered()
        clock.advance(10)

    assert ladder.transport is ConfigTransport.STREAM


def test_a_rolling_restart_is_not_a_broken_proxy() -> None:
    ladder, clock = climber()

    for _ in range(20):
        ladder.suspect("a stream was cut")
        ladder.answered()
        clock.advance(1)

    assert ladder.transport is ConfigTransport.STREAM


def test_one_stream_that_lived_makes_up_for_those_that_did_not() -> None:
    ladder, clock = climber()

    for _ in range(20):
        for _ in range(3):
            ladder.strike("a stream was cut")
            clock.advance(60)
        ladder.works()

    assert ladder.transport is ConfigTransport.STREAM


@pytest.mark.parametrize(("luck", "climbs_at_s"), [(0.0, 150), (1.0, 450)])
def test_clients_behind_one_proxy_do_not_climb_together(luck: float, climbs_at_s: float) -> None:
    ladder, clock = climber(luck=luck)
    ladder.step_down("406")

    clock.advance(climbs_at_s - 1)
    assert ladder.choose() is ConfigTransport.LONG_POLL
    clock.advance(1)
    assert ladder.choose() is ConfigTransport.STREAM


def test_from_the_lowest_rung_the_ladder_is_climbed_one_by_one() -> None:
    ladder, clock = climber()
    ladder.step_down("406")
    ladder.step_down("not held")

    clock.advance(300)
    assert ladder.choose() is ConfigTransport.LONG_POLL
    ladder.works()
    clock.advance(300)
    assert ladder.choose() is ConfigTransport.STREAM


def test_a_rung_that_is_only_tried_is_not_climbed_from() -> None:
    ladder, clock = climber()
    ladder.step_down("406")
    ladder.step_down("not held")
    clock.advance(300)
    ladder.choose()

    clock.advance(3600)

    assert ladder.choose() is ConfigTransport.LONG_POLL


def test_a_rung_that_works_again_makes_the_next_climb_as_quick_as_the_first() -> None:
    ladder, clock = climber()
    ladder.step_down("406")
    for wait_s in (300, 600):
        clock.advance(wait_s)
        assert ladder.choose() is ConfigTransport.STREAM
        ladder.strike("a stream was cut")
    clock.advance(1200)
    ladder.choose()
    ladder.works()

    ladder.step_down("406")

    clock.advance(300)
    assert ladder.choose() is ConfigTransport.STREAM


def test_what_was_held_against_one_rung_is_not_held_against_the_next() -> None:
    ladder, _ = climber()
    ladder.suspect("a stream was cut", is_grave=True)
    ladder.step_down("406")

    ladder.answered()

    assert ladder.transport is ConfigTransport.LONG_POLL


def test_a_rung_that_is_only_tried_falls_at_the_first_strike() -> None:
    ladder, clock = climber()
    ladder.step_down("406")
    clock.advance(300)
    ladder.choose()

    ladder.strike("a stream was cut")

    assert ladder.transport is ConfigTransport.LONG_POLL
    clock.advance(599)
    assert ladder.choose() is ConfigTransport.LONG_POLL
    clock.advance(1)
    assert ladder.choose() is ConfigTransport.STREAM


@pytest.mark.parametrize("wait_s", [61.0, 300.0, float("inf")])
def test_a_wait_beyond_what_the_server_holds_is_no_sign_that_it_holds_nothing(
    wait_s: float,
) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop, wait_s=wait_s)
        following.plane.on_stream = lambda request: httpx.Response(406)
        async with following:
            await asyncio.sleep(250)

            assert following.client.transport == "long_poll"
            assert following.plane.last("held")["prefer"] == "wait=60"
            assert following.plane.kinds().count("held") == 5

    run_virtually(story)


@pytest.mark.parametrize("wait_s", [-1.0, -0.001, float("nan"), float("-inf")])
def test_a_wait_that_makes_no_sense_is_refused(wait_s: float) -> None:
    with pytest.raises(ValueError, match="wait_s: expected 0 seconds or more, not"):
        PolicyClient("http://x", "prod", "checkout", "tgs_x", wait_s=wait_s)


def test_a_wait_that_no_request_can_ask_for_is_none() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, wait_s=0.9) as following:
            await asyncio.sleep(100)

            assert following.client.transport == "poll"

    run_virtually(story)

"""The client on a stream: what it takes from it, says of it, and how it leaves and comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.delivery.builders import VirtualTimeLoop, run_virtually
from tests.sdk.following import publication, refuse_level_3
from tests.sdk.streaming import Following, StreamingPlane
from tidegate import Policy
from tidegate.clock import ServerClock
from tidegate.control_plane import ControlPlane, Said, StreamUnsupported, Unavailable


def test_a_policy_that_the_stream_brings_is_applied_at_once_and_acknowledged_by_a_short_poll() -> (
    None
):
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop) as following:
            await asyncio.sleep(20)
            following.plane.publish(8, shed_level=2)
            await asyncio.sleep(0.1)

            assert following.applied == [(0.0, 0), (20.0, 2)]
            assert following.plane.kinds() == ["short", "short", "stream", "short"]
            acknowledged = following.plane.last("short")
            assert acknowledged["tidegate-applied"] == '"8-0-aa"'
            assert acknowledged["if-none-match"] == '"8-0-aa"'
            assert "prefer" not in acknowledged
            assert following.client.transport == "stream"

    run_virtually(story)


def test_a_stream_says_who_asks_and_where_to_go_on() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop) as following:
            await asyncio.sleep(1)

            asked = following.plane.last("stream")
            assert asked["last-event-id"] == "7"
            assert asked["tidegate-instance"] == "checkout-1"
            assert asked["tidegate-applied"] == asked["if-none-match"] == '"7-0-aa"'
            assert asked["authorization"] == "Bearer tgs_secret"
            assert asked["accept-encoding"] == "identity"

    run_virtually(story)


def test_what_a_stream_brought_and_cannot_be_applied_is_reported_and_the_old_policy_stays() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, on_change=(refuse_level_3,)) as following:
            await asyncio.sleep(1)
            following.plane.publish(8, shed_level=3)
            await asyncio.sleep(0.1)

            assert following.level == 0
            said = following.plane.last("short")
            assert said["tidegate-rejected"].startswith('"8-0-aa"; reason="refuse_level_3')
            assert said["tidegate-applied"] == '"7-0-aa"'
            assert said["if-none-match"] == '"7-0-aa", "8-0-aa"'

    run_virtually(story)


def test_what_was_refused_for_good_is_not_tried_again_on_the_next_stream() -> None:
    tried: list[int] = []

    def refuse(policy: Policy) -> None:
        tried.append(policy.inbound.shedding.level)
        refuse_level_3(policy)

    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, on_change=(refuse,)) as following:
            await asyncio.sleep(1)
            following.plane.publish(8, shed_level=3)
            await asyncio.sleep(1)
            following.plane.open_streams[0].say_goodbye(after_ms=100)
            await asyncio.sleep(10)

            assert following.plane.kinds(since_s=1) == ["short", "stream"]
            assert tried == [0, 3, 0]  # the last is the old one, put back

    run_virtually(story)


def test_an_acknowledgement_is_tried_until_it_got_through() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop) as following:
            await asyncio.sleep(1)
            refusals = iter([httpx.Response(500)] * 3)
            following.plane.on_short = lambda request: next(refusals, None)
            following.plane.publish(8, shed_level=1)
            await asyncio.sleep(10)

            polls = [asked for asked in following.plane.asked if asked.at_s >= 1]
            assert [poll.kind for poll in polls] == ["short"] * 4
            assert {poll.headers["tidegate-applied"] for poll in polls} == {'"8-0-aa"'}
            assert [poll.at_s for poll in polls] == [1.0, 1.25, 1.75, 2.75]
            assert len(following.plane.open_streams) == 1

    run_virtually(story)


def test_a_poll_looks_behind_an_open_stream_about_once_a_minute() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, luck=0.25) as following:
            await asyncio.sleep(600)

            looks = [asked.at_s for asked in following.plane.asked if asked.kind == "short"][2:]
            assert looks == [45.0 * number for number in range(1, 14)]
            assert following.plane.kinds().count("stream") == 1

    run_virtually(story)


def test_a_stream_that_brings_nothing_is_caught_by_the_poll_behind_it() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop) as following:
            await asyncio.sleep(10)
            following.plane.pushes = False
            following.plane.publish(8, shed_level=1)
            await asyncio.sleep(60)

            assert following.applied[1] == (60.0, 1)
            assert following.plane.kinds().count("stream") == 2
            assert len(following.plane.open_streams) == 1

    run_virtually(story)


def test_a_stream_that_is_a_moment_behind_a_poll_is_kept() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop) as following:
            await asyncio.sleep(58)
            following.plane.pushes = False
            following.plane.publish(8, shed_level=1)
            await asyncio.sleep(4)
            assert following.applied[1] == (60.0, 1)
            following.plane.push()
            await asyncio.sleep(300)

            assert following.plane.kinds().count("stream") == 1

    run_virtually(story)


def test_the_policy_is_as_old_as_the_last_heartbeat() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, luck=1.0) as following:
            await asyncio.sleep(80)

            assert following.client.age_s == pytest.approx(5.0)

    run_virtually(story)


@pytest.mark.parametrize(("luck", "back_s"), [(0.0, 4.0), (0.5, 6.0), (1.0, 8.0)])
def test_a_goodbye_is_obeyed_with_jitter_and_the_stream_goes_on_where_it_was(
    luck: float, back_s: float
) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, luck=luck) as following:
            await asyncio.sleep(10)
            following.plane.streams[0].say_goodbye(after_ms=4000)
            await asyncio.sleep(1)
            assert following.plane.open_streams == []
            following.plane.publish(8, shed_level=2)
            await asyncio.sleep(10)

            assert following.applied[-1] == (10 + back_s, 2)
            assert following.plane.last("stream")["last-event-id"] == "7"
            assert following.plane.kinds(since_s=10) == ["stream", "short"]

    run_virtually(story)


def test_a_stream_that_is_only_rotated_is_opened_again_when_the_server_says() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, luck=1.0) as following:
            await asyncio.sleep(10)
            following.plane.streams[0].say_goodbye(after_ms=3000, reason="rotate")
            await asyncio.sleep(10)

            assert [a.at_s for a in following.plane.asked if a.kind == "stream"] == [0.0, 13.0]

    run_virtually(story)


@pytest.mark.parametrize(
    "data", ["", "7", "[]", '{"after_ms": -1}', '{"after_ms": true}', '{"after_ms": "3000"}']
)
def test_a_goodbye_that_makes_no_sense_is_a_goodbye_all_the_same(data: str) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, luck=0.0) as following:
            await asyncio.sleep(10)
            following.plane.streams[0].send(f"event: reconnect\ndata: {data}\n\n".encode())
            await asyncio.sleep(20)

            assert [a.at_s for a in following.plane.asked if a.kind == "stream"] == [0.0, 11.0]

    run_virtually(story)


@pytest.mark.parametrize("reason", ["draining", "rotate"])
@pytest.mark.parametrize(("luck", "back_s"), [(0.0, 0.5), (1.0, 1.0)])
def test_a_goodbye_that_asks_for_no_pause_gets_a_short_one_with_jitter(
    luck: float, back_s: float, reason: str
) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, luck=luck) as following:
            await asyncio.sleep(10)
            following.plane.streams[0].say_goodbye(after_ms=0, reason=reason)
            await asyncio.sleep(10)

            streams = [a.at_s for a in following.plane.asked if a.kind == "stream"]
            assert streams == [0.0, 10 + back_s]

    run_virtually(story)


def test_a_goodbye_for_ever_is_one_for_some_minutes() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, luck=0.0) as following:
            await asyncio.sleep(10)
            following.plane.streams[0].say_goodbye(after_ms=10**400)
            await asyncio.sleep(600)

            assert [a.at_s for a in following.plane.asked if a.kind == "stream"] == [0.0, 310.0]

    run_virtually(story)


def test_a_goodbye_without_a_time_is_obeyed_by_its_retry_field() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop, luck=0.0) as following:
            await asyncio.sleep(10)
            following.plane.streams[0].send(b"retry: 3000\nevent: reconnect\ndata: {}\n\n")
            await asyncio.sleep(20)

            assert [a.at_s for a in following.plane.asked if a.kind == "stream"] == [0.0, 13.0]

    run_virtually(story)


def test_a_stream_that_is_cut_is_opened_again_after_a_poll_and_misses_nothing() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop) as following:
            await asyncio.sleep(100)
            following.plane.streams[0].cut()
            following.plane.pushes = False
            following.plane.publish(8, shed_level=2)
            following.plane.pushes = True
            await asyncio.sleep(2)

            assert following.level == 2
            assert following.plane.kinds(since_s=100) == ["short", "short", "stream"]

    run_virtually(story)


def test_a_stream_that_falls_silent_is_dead_after_two_and_a_half_heartbeats() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop) as following:
            await asyncio.sleep(100)  # heard last at 90
            following.plane.streams[0].is_stuck = True
            await asyncio.sleep(27)
            assert len(following.plane.streams) == 1
            await asyncio.sleep(1)

            assert [stream.is_closed for stream in following.plane.streams] == [True, False]
            assert following.client.transport == "stream"

    run_virtually(story)


def test_failed_streams_and_failed_polls_open_one_circuit() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = StreamingPlane(loop)
        plane.is_dead = True
        clock = ServerClock(wall=loop.wall_unix, elapsed=loop.time)
        control_plane = ControlPlane(
            "http://tidegate", "prod", "checkout",
            token="tgs_x", clock=clock, transport=plane, monotonic=loop.time,
        )  # fmt: skip
        with pytest.raises(Unavailable, match="refused"):
            await control_plane.poll("checkout-1", Said(), 0.0)
        for _ in range(4):
            with pytest.raises(Unavailable, match="refused"):
                async with control_plane.stream("checkout-1", Said(), None):
                    raise AssertionError("nothing was opened")

        with pytest.raises(Unavailable, match="its circuit is open"):
            await control_plane.keys()

        assert plane.kinds() == ["short", *["stream"] * 4]
        await control_plane.close()

    run_virtually(story)


def test_a_stream_that_is_not_supported_is_an_answer_for_the_circuit() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = StreamingPlane(loop)
        plane.on_stream = lambda request: httpx.Response(406)
        clock = ServerClock(wall=loop.wall_unix, elapsed=loop.time)
        control_plane = ControlPlane(
            "http://tidegate", "prod", "checkout",
            token="tgs_x", clock=clock, transport=plane, monotonic=loop.time,
        )  # fmt: skip

        async def fail_to_poll() -> None:
            plane.is_dead = True
            with pytest.raises(Unavailable, match="refused"):
                await control_plane.poll("checkout-1", Said(), 0.0)
            plane.is_dead = False

        for _ in range(4):
            await fail_to_poll()
        with pytest.raises(StreamUnsupported):
            async with control_plane.stream("checkout-1", Said(), None):
                raise AssertionError("nothing was opened")
        await fail_to_poll()

        assert (await control_plane.poll("checkout-1", Said(), 0.0)).status == 200
        await control_plane.close()

    run_virtually(story)


def test_while_the_control_plane_is_dead_the_circuit_spares_it_and_the_policy_stays() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop) as following:
            following.plane.publish(8, shed_level=2)
            await asyncio.sleep(100)
            following.plane.is_dead = True
            following.plane.streams[0].cut()
            await asyncio.sleep(600)

            # Five failures open it; then one probe every five seconds, and a poll is cheaper.
            assert set(following.plane.kinds(since_s=100)) == {"short"}
            assert len(following.plane.kinds(since_s=100)) < 5 + 600 / 5
            assert following.level == 2
            following.plane.is_dead = False
            following.plane.publish(9, shed_level=1)
            await asyncio.sleep(20)
            assert following.level == 1
            assert len(following.plane.open_streams) == 1
            assert following.client.transport == "stream"

    run_virtually(story)


def test_retry_after_on_a_stream_is_obeyed() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop, luck=0.0)
        refusals = iter([httpx.Response(503, headers={"Retry-After": "7"})])
        following.plane.on_stream = lambda request: next(refusals, None)
        async with following:
            await asyncio.sleep(20)

            at_s = [asked.at_s for asked in following.plane.asked if asked.kind == "stream"]
            assert at_s == [0.0, 7.0]

    run_virtually(story)


def test_an_override_that_ends_by_the_clock_is_acknowledged_at_once() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        following = Following(loop)
        now_s = loop.wall_unix()
        following.plane.body = publication(7, shed_level=2, scheduled=[(now_s + 20, 0)])
        async with following:
            await asyncio.sleep(21)

            assert following.applied == [(0.0, 2), (pytest.approx(20.0), 0)]
            assert following.plane.last("short")["tidegate-applied"] == '"7-1-aa"'

    run_virtually(story)


def test_a_stream_goes_on_after_the_policy_only_when_it_is_on_disk(tmp_path: Path) -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("in the way of a directory")
        async with Following(loop, state_dir=blocked / "state") as following:
            await asyncio.sleep(5)

            assert following.client.etag is None
            assert "last-event-id" not in following.plane.last("stream")
            blocked.unlink()
            following.plane.publish(8)
            await asyncio.sleep(1)
            assert following.client.etag == "8-0-aa"

    run_virtually(story)


def test_an_endless_line_ends_the_stream_not_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.streams.MAX_LINE_BYTES", 100_000)

    async def story(loop: VirtualTimeLoop) -> None:
        async with Following(loop) as following:
            await asyncio.sleep(100)
            for _ in range(3):
                following.plane.streams[0].send(b"x" * 50_000)
            await asyncio.sleep(5)

            assert following.plane.streams[0].is_closed
            assert len(following.plane.open_streams) == 1

    run_virtually(story)


def test_stopping_leaves_no_task_and_no_stream() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        before = asyncio.all_tasks()
        async with Following(loop) as following:
            await asyncio.sleep(5)

        assert following.plane.open_streams == []
        assert asyncio.all_tasks() == before

    run_virtually(story)

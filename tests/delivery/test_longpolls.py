"""Polls that wait: woken by a change, by the schedule, by time, by leaving, by a stop."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from controlplane.delivery.hotpath.longpoll import SHORTENED_BY, HeldPoll
from controlplane.delivery.hotpath.polls import Poll
from controlplane.delivery.hotpath.problems import Answer
from tests.delivery.builders import (
    CHECKOUT_TOKEN,
    Client,
    Plane,
    VirtualTimeLoop,
    ask,
    begin,
    let_others_run,
    make_plane,
    respond,
    run_virtually,
    snapshot,
    token_record,
)

AFTER = {"inbound": {"deadline_ms": 1000}}
WAIT = {"If-None-Match": '"7-0-9f3c"', "Prefer": "wait=30"}


def plane_in(loop: VirtualTimeLoop, *snapshots: object, **options: object) -> Plane:
    return make_plane(*snapshots, clock=loop.wall_unix, **options)  # type: ignore[arg-type]


def test_a_waiting_poll_is_answered_the_moment_something_newer_is_published() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane, client = plane_in(loop), Client()
        poll = begin(plane, client, headers=WAIT)
        await let_others_run()
        assert (client.messages, plane.config.held_count) == ([], 1)

        plane.store.swap(snapshot(8, policy=AFTER))
        await poll

        reply = client.reply()
        assert (reply.status, reply.json["policy"]) == (200, AFTER)
        assert reply.headers["preference-applied"] == "wait=30"
        assert (loop.elapsed_s, plane.config.held_count) == (0.0, 0)

    run_virtually(story)


def test_an_unrelated_publication_wakes_nobody() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane, client = plane_in(loop), Client()
        poll = begin(plane, client, headers=WAIT)
        await let_others_run()

        plane.store.swap(snapshot(8, service="payments"))
        plane.store.swap(snapshot(9, service=""))
        await let_others_run()

        assert client.messages == []
        poll.cancel()

    run_virtually(story)


def test_a_poll_gets_304_when_its_wait_is_over() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)

        reply = await ask(plane, headers=WAIT)

        assert reply.status == 304
        assert 30.0 * (1 - SHORTENED_BY) <= loop.elapsed_s <= 30.0
        assert reply.headers["preference-applied"] == "wait=30"
        assert waiters(plane) == 0

    run_virtually(story)


def test_no_poll_waits_longer_than_a_minute() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        reply = await ask(plane_in(loop), headers={**WAIT, "Prefer": "wait=86400"})

        assert loop.elapsed_s <= 60.0
        assert reply.headers["preference-applied"] == "wait=60"

    run_virtually(story)


def test_a_poll_with_an_old_etag_does_not_wait() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        reply = await ask(plane_in(loop), headers={**WAIT, "If-None-Match": '"6-0-9f3c"'})

        assert (reply.status, loop.elapsed_s) == (200, 0.0)
        assert "preference-applied" not in reply.headers

    run_virtually(story)


def test_a_waiting_poll_is_woken_when_a_scheduled_step_falls_due() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop, snapshot(7, scheduled=[(20, AFTER)]))
        plane.store.advance()  # the loop runs now, so the schedule gets its timer

        reply = await ask(plane, headers=WAIT)

        assert (reply.status, loop.elapsed_s) == (200, 20.0)
        assert (reply.headers["etag"], reply.headers["tidegate-sequence"]) == ('"7-1-9f3c"', "7")

    run_virtually(story)


def test_a_client_that_switched_early_waits_on_through_the_switch() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop, snapshot(7, scheduled=[(3, AFTER)]))
        plane.store.advance()

        reply = await ask(plane, headers={**WAIT, "If-None-Match": '"7-1-9f3c"'})

        assert (reply.status, loop.elapsed_s > 26.0) == (304, True)

    run_virtually(story)


def test_a_jump_of_the_wall_clock_delays_a_scheduled_step_by_a_second_at_most() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        jump_s = 0.0
        plane = make_plane(
            snapshot(7, scheduled=[(25, AFTER)]), clock=lambda: loop.wall_unix() + jump_s
        )
        plane.store.advance()
        client = Client()
        poll = begin(plane, client, headers=WAIT)
        await let_others_run()

        jump_s = 3600.0
        await poll

        assert (client.reply().status, loop.elapsed_s) == (200, 1.0)

    run_virtually(story)


def test_a_client_that_leaves_frees_its_place_at_once() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane, client = plane_in(loop), Client()
        poll = begin(plane, client, headers=WAIT)
        await let_others_run()

        client.left.set()
        await poll

        assert (client.messages, plane.config.held_count, loop.elapsed_s) == ([], 0, 0.0)
        assert waiters(plane) == 0

    run_virtually(story)


def test_a_poll_whose_server_cancels_it_leaves_nothing_behind() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane, client = plane_in(loop), Client()
        poll = begin(plane, client, headers=WAIT)
        await let_others_run()

        poll.cancel()
        await asyncio.wait([poll])
        await let_others_run()

        assert plane.config.held_count == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(story)


def test_draining_answers_every_parked_poll_and_holds_no_more() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        clients = [Client() for _ in range(3)]
        polls = [begin(plane, client, headers=WAIT) for client in clients]
        await let_others_run()
        assert plane.config.is_ready is True

        plane.config.drain()
        await asyncio.gather(*polls)
        late = await ask(plane, headers=WAIT)

        assert [client.reply().status for client in clients] == [304, 304, 304]
        assert (late.status, loop.elapsed_s, plane.config.is_ready) == (304, 0.0, False)

    run_virtually(story)


def test_a_full_house_sends_polls_away_with_a_spread_retry_after() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop, max_parked=5)
        polls = [begin(plane, Client(), headers=WAIT) for _ in range(4)]
        await let_others_run()

        refused = [await ask(plane, headers=WAIT) for _ in range(40)]
        plain = await ask(plane, headers={"If-None-Match": '"7-0-9f3c"'})

        # One service gets four fifths of the places; the rest stays for the others.
        assert plane.config.held_count == 4
        assert {reply.status for reply in refused} == {503}
        assert {reply.json["code"] for reply in refused} == {"too-many-waiting"}
        assert len({reply.headers["retry-after"] for reply in refused}) > 1
        assert all(1 <= int(reply.headers["retry-after"]) <= 10 for reply in refused)
        assert plain.status == 304
        for poll in polls:
            poll.cancel()

    run_virtually(story)


def test_a_token_revoked_while_its_poll_waits_gets_no_policy() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane, client = plane_in(loop), Client()
        poll = begin(plane, client, headers=WAIT)
        await let_others_run()

        plane.tokens.replace([token_record("tgs_other", "payments")])
        plane.store.swap(snapshot(8, policy=AFTER))
        await poll

        assert client.reply().status == 401

    run_virtually(story)


def test_a_revoked_token_is_refused_at_once_and_its_neighbour_waits_on() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane, revoked, valid = plane_in(loop), Client(), Client()
        kept = token_record("tgs_kept", "checkout")
        plane.tokens.replace([token_record(CHECKOUT_TOKEN, "checkout"), kept])
        poll = begin(plane, revoked, headers=WAIT)
        other = begin(plane, valid, headers=WAIT, token="tgs_kept")
        await let_others_run()

        for key in plane.tokens.replace([kept]):
            plane.store.wake(key)
        await poll
        await let_others_run()

        assert (revoked.reply().status, valid.messages, loop.elapsed_s) == (401, [], 0.0)
        other.cancel()

    run_virtually(story)


def test_a_swap_between_the_look_and_the_wait_is_not_slept_through() -> None:
    """The race: a publication arrives after the check said "unchanged" and before the wait.

    The rules publish after they have looked. A waiter that registered first is woken by it; one
    that registered only after looking would sleep until its time is up.
    """

    async def story(loop: VirtualTimeLoop) -> None:
        plane, answers = plane_in(loop), []
        _, poll = respond(plane, headers={"If-None-Match": '"7-0-9f3c"'})
        assert poll is not None
        slot, looks = poll.slot, []

        class Racing:
            def final_answer(self, poll: Poll) -> Answer | None:
                looks.append(slot.stable.snapshot.sequence)
                if len(looks) == 1:
                    plane.store.swap(snapshot(8))
                return None if looks[-1] == 7 else slot.stable.not_modified

            def expired_answer(self, poll: Poll) -> Answer:
                raise AssertionError("slept through")

            def valid_for_s(self, poll: Poll) -> float:
                return 60.0

            def leave(self, poll: Poll) -> None:
                pass

        class Remembering:
            def finish(self, answer: Answer) -> None:
                answers.append(answer)

        poll.wait_s = 30
        held = HeldPoll(Racing(), poll, Remembering())  # type: ignore[arg-type]
        held.look()
        await let_others_run()

        assert (looks, [answer.status for answer in answers]) == ([7, 8], [304])

    run_virtually(story)


def test_a_poll_whose_token_expires_while_it_waits_is_refused_then() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop)
        expires_at_unix = loop.wall_unix() + 10
        plane.tokens.replace(
            [token_record(CHECKOUT_TOKEN, "checkout", expires_at_unix=expires_at_unix)]
        )

        reply = await ask(plane, headers=WAIT)

        assert (reply.status, loop.elapsed_s) == (401, 10.0)

    run_virtually(story)


def test_draining_over_a_while_lets_polls_go_one_after_the_other() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane, ended_at = plane_in(loop, max_parked=200), []

        async def wait() -> None:
            await ask(plane, headers=WAIT)
            ended_at.append(loop.elapsed_s)

        polls = [asyncio.ensure_future(wait()) for _ in range(50)]
        await let_others_run()

        plane.config.drain(over_s=2.0)
        await asyncio.gather(*polls)

        assert max(ended_at) <= 2.0
        assert max(ended_at) - min(ended_at) > 0.5
        assert len(set(ended_at)) > 40

    run_virtually(story)


def test_a_defect_of_ours_ends_the_wait_of_those_it_concerns() -> None:
    def failing(body: bytes) -> bytes:
        raise RuntimeError("a defect")

    async def story(loop: VirtualTimeLoop) -> None:
        plane, client = plane_in(loop), Client()
        poll = begin(plane, client, headers=WAIT)
        await let_others_run()
        plane.store.use_signer(failing)

        with capture_logs() as lines:
            plane.store.swap(snapshot(8))
            await poll

        assert (client.reply().status, client.reply().json["code"]) == (500, "internal-error")
        assert [line["event"] for line in lines] == ["poll.failed"]
        assert (loop.elapsed_s, plane.config.held_count, waiters(plane)) == (0.0, 0, 0)

    run_virtually(story)


def waiters(plane: Plane) -> int:
    slot = plane.store.find_slot("prod", "checkout")
    assert slot is not None
    return len(slot.stable.waiters)


def test_a_thousand_waiters_are_all_woken_by_one_swap() -> None:
    async def story(loop: VirtualTimeLoop) -> None:
        plane = plane_in(loop, max_parked=2_000)
        clients = [Client() for _ in range(1_000)]
        polls = [begin(plane, client, headers=WAIT) for client in clients]
        await let_others_run()

        plane.store.swap(snapshot(8))
        await asyncio.gather(*polls)
        await let_others_run()

        assert {client.reply().headers["tidegate-sequence"] for client in clients} == {"8"}
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(story)

"""Tokens that end while somebody waits with them: by revocation, and by the clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from controlplane.delivery.hotpath.auth import TokenRecord, TokenTable
from controlplane.delivery.services.feed import Feed
from tests.delivery.builders import (
    CHECKOUT_TOKEN,
    NOW,
    Client,
    VirtualTimeLoop,
    begin,
    make_plane,
    run_virtually,
    token_record,
)
from tests.delivery.test_streams import stream

A, B = "tgs_" + "a" * 43, "tgs_" + "b" * 43
START = NOW.timestamp()


def expiring(text: str, service: str, after_s: float | None) -> TokenRecord:
    return token_record(text, service, expires_at_unix=None if after_s is None else START + after_s)


def test_a_token_that_expires_names_the_service_whose_polls_must_look_again() -> None:
    tokens = TokenTable()
    tokens.replace([expiring(A, "checkout", 30), expiring(B, "payments", None)])

    assert tokens.next_expiry_unix == START + 30
    assert tokens.take_expired(START + 29.9) == set()
    assert tokens.take_expired(START + 30) == {("prod", "checkout")}
    assert tokens.take_expired(START + 31) == set()
    assert tokens.next_expiry_unix == float("inf")


def test_a_token_that_has_expired_before_wakes_nobody_when_others_change() -> None:
    tokens = TokenTable()
    tokens.replace([expiring(A, "checkout", 30)])
    tokens.take_expired(START + 30)

    tokens.replace([expiring(A, "checkout", 30), expiring(B, "payments", 90)])

    assert tokens.take_expired(START + 60) == set()
    assert tokens.take_expired(START + 90) == {("prod", "payments")}


def test_an_expiry_that_was_brought_forward_counts() -> None:
    tokens = TokenTable()
    tokens.replace([expiring(A, "checkout", None)])

    assert tokens.replace([expiring(A, "checkout", 60)]) == set()
    assert tokens.take_expired(START + 60) == {("prod", "checkout")}


def test_an_expiry_that_was_brought_forward_into_the_past_counts_at_once() -> None:
    tokens = TokenTable()
    tokens.replace([expiring(A, "checkout", None), expiring(B, "payments", 90)])
    tokens.take_expired(START + 100)

    assert tokens.replace([expiring(A, "checkout", 60), expiring(B, "payments", 90)]) == {
        ("prod", "checkout")
    }


def follow(
    tmp_path: Path, loop: VirtualTimeLoop, sync: Callable[[Feed], Awaitable[None]]
) -> tuple[Feed, list[tuple[float, tuple[str, str]]]]:
    """A feed in virtual time whose looks are `sync`; and whom it woke, when."""
    plane = make_plane(clock=loop.wall_unix)
    plane.tokens.replace([expiring(A, "checkout", 30)])
    woken: list[tuple[float, tuple[str, str]]] = []
    plane.store.wake = lambda key: woken.append((loop.elapsed_s, key))  # type: ignore[method-assign]
    feed = Feed(
        plane.store, plane.tokens, plane.reports, redis_url="redis://127.0.0.1:1",
        snapshot_file=tmp_path / "snapshots.json", clock=loop.wall_unix,
    )  # fmt: skip
    feed.sync = lambda: sync(feed)  # type: ignore[method-assign, assignment, return-value]
    return feed, woken


def test_who_waits_with_a_token_is_woken_the_moment_it_expires(tmp_path: Path) -> None:
    async def story(loop: VirtualTimeLoop) -> list[tuple[float, tuple[str, str]]]:
        async def nothing_new(_: Feed) -> None:
            return

        feed, woken = follow(tmp_path, loop, nothing_new)
        running = asyncio.create_task(feed._expire_forever())
        await asyncio.sleep(45)
        running.cancel()
        return woken

    ((at_s, key),) = run_virtually(story)

    assert key == ("prod", "checkout")
    assert at_s == pytest.approx(30, abs=0.01)


def test_a_rotation_ends_what_the_old_token_holds_when_its_grace_is_over(tmp_path: Path) -> None:
    """The poll and the stream began when the token was to live for ever."""

    async def story(loop: VirtualTimeLoop) -> None:
        plane, poll = make_plane(clock=loop.wall_unix), Client()
        feed = Feed(
            plane.store, plane.tokens, plane.reports, redis_url="redis://127.0.0.1:1",
            snapshot_file=tmp_path / "snapshots.json", clock=loop.wall_unix,
        )  # fmt: skip
        expiring_on_time = asyncio.create_task(feed._expire_forever())
        begin(plane, poll, headers={"If-None-Match": '"7-0-9f3c"', "Prefer": "wait=60"})
        async with stream(plane) as opened:
            ends = loop.wall_unix() + 20
            plane.tokens.replace([token_record(CHECKOUT_TOKEN, "checkout", expires_at_unix=ends)])
            await asyncio.sleep(19.9)
            held = plane.config.held_count
            await asyncio.sleep(0.2)

            assert (held, plane.config.held_count) == (2, 0)
            assert poll.reply().json["detail"] == "the token has expired"
            assert json.loads(opened.events()[-1]["data"])["reason"] == "revoked"
        expiring_on_time.cancel()

    run_virtually(story)


@pytest.mark.parametrize("committed_s", [0.0, 0.1, 0.39, 0.41, 1.0, 1.3999, 1.41])
def test_without_hints_a_revocation_is_seen_within_2_s_of_its_commit(
    committed_s: float, tmp_path: Path
) -> None:
    """Even when each look at the database takes 0.4 s, which is a hundred times the usual."""

    async def story(loop: VirtualTimeLoop) -> float:
        seen_s: list[float] = []

        async def slow_look(_: Feed) -> None:
            began_s = loop.elapsed_s
            await asyncio.sleep(0.4)
            if began_s >= committed_s:
                seen_s.append(loop.elapsed_s)

        feed, _ = follow(tmp_path, loop, slow_look)
        running = asyncio.create_task(feed._follow())
        await asyncio.sleep(10)
        running.cancel()
        return seen_s[0] - committed_s

    assert run_virtually(story) < 2.0

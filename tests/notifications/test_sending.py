"""Channels are told at least once, in order, and are left alone while they fail."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from django.db import OperationalError, connection

from controlplane.notifications.domain.alerts import ENDS_AFTER, ChannelKind, Told
from controlplane.notifications.domain.timing import next_word
from controlplane.notifications.models import Alert, Notice
from controlplane.notifications.services import sending
from controlplane.notifications.upstream.post import NotTold
from tests.notifications.builders import Recorder, content, fire, send
from tests.waiting import HUNG_S

WEBHOOK = (ChannelKind.WEBHOOK,)
MANAGER = (ChannelKind.ALERTMANAGER,)


def test_a_webhook_hears_that_it_fires_and_that_it_is_over_once_each(
    db: None, now: datetime
) -> None:
    channel = Recorder()
    fire(now, content(now), channels=WEBHOOK)

    assert send(now, channel) == 1
    assert send(now + timedelta(minutes=9), channel) == 0
    fire(now + timedelta(minutes=10), channels=WEBHOOK)
    assert send(now + timedelta(minutes=10), channel) == 1
    assert send(now + timedelta(hours=2), channel) == 0

    assert channel.statuses() == [("firing", "checkout"), ("resolved", "checkout")]
    first, last = (body["alerts"][0] for body in channel.bodies)
    assert (first["startsAt"], first["endsAt"]) == (
        "2026-11-02T02:13:57.000Z", "0001-01-01T00:00:00Z",
    )  # fmt: skip
    assert last["endsAt"] == "2026-11-02T02:24:00.000Z"
    assert first["fingerprint"] == last["fingerprint"]
    assert channel.headers[0]["Idempotency-Key"] != channel.headers[1]["Idempotency-Key"]


def test_alertmanager_is_told_again_before_it_would_end_the_alert(db: None, now: datetime) -> None:
    channel = Recorder()
    fire(now, content(now), channels=MANAGER)

    told_at = [
        second
        for second in range(0, 300, 5)
        if send(now + timedelta(seconds=second), channel, ChannelKind.ALERTMANAGER)
    ]

    assert told_at == [0, 60, 120, 180, 240]
    ends = [datetime.fromisoformat(body[0]["endsAt"]) for body in channel.bodies]
    assert ends[0] == now + ENDS_AFTER
    assert ends[0] - (now + timedelta(seconds=told_at[1])) >= timedelta(minutes=4)


def test_alertmanager_is_told_the_end_with_the_time_it_ended(db: None, now: datetime) -> None:
    channel = Recorder()
    fire(now, content(now), channels=MANAGER)
    send(now, channel, ChannelKind.ALERTMANAGER)

    fire(now + timedelta(seconds=30), channels=MANAGER)
    send(now + timedelta(seconds=31), channel, ChannelKind.ALERTMANAGER)

    (last,) = channel.bodies[-1]
    assert last["endsAt"] == "2026-11-02T02:14:30.000Z"
    assert send(now + timedelta(hours=1), channel, ChannelKind.ALERTMANAGER) == 0


def test_what_began_and_ended_unheard_is_told_in_order(db: None, now: datetime) -> None:
    channel = Recorder()
    fire(now, content(now), channels=WEBHOOK)
    fire(now + timedelta(seconds=10), channels=WEBHOOK)

    send(now + timedelta(seconds=20), channel)
    send(now + timedelta(seconds=25), channel)

    assert channel.statuses() == [("firing", "checkout"), ("resolved", "checkout")]


def test_a_channel_that_fails_is_tried_again_later_and_later_and_nothing_is_lost(
    db: None, now: datetime
) -> None:
    channel = Recorder()
    channel.failure = NotTold("http://pager.test answered 503")
    fire(now, content(now), channels=WEBHOOK)

    tried = []
    for second in range(0, 1200, 5):
        before = channel.calls
        send(now + timedelta(seconds=second), channel)
        if channel.calls > before:
            tried.append(second)
    notice = Notice.objects.get()
    channel.failure = None
    assert send(now + timedelta(seconds=1300), channel) == 1

    gaps = [later - earlier for earlier, later in pairwise(tried)]
    assert 15 <= len(tried) <= 120
    assert max(gaps) <= 70
    assert (notice.attempts, notice.told) == (len(tried), "")
    assert notice.last_error == "http://pager.test answered 503"
    assert channel.statuses() == [("firing", "checkout")]
    assert (Notice.objects.get().attempts, Notice.objects.get().last_error) == (0, "")


def test_a_channel_that_asks_for_patience_gets_it_within_bounds(db: None, now: datetime) -> None:
    channel = Recorder()
    fire(now, content(now), channels=WEBHOOK)
    channel.failure = NotTold("busy", asked_s=120)
    send(now, channel)
    assert Notice.objects.get().next_at == now + timedelta(seconds=122)

    channel.failure = NotTold("busy", asked_s=1e9)
    send(now + timedelta(seconds=200), channel)

    assert Notice.objects.get().next_at == now + timedelta(seconds=802)


def test_a_channel_that_refuses_is_asked_again_in_minutes(db: None, now: datetime) -> None:
    channel = Recorder()
    channel.failure = NotTold("http://pager.test answered 400", is_refusal=True)
    fire(now, content(now), channels=WEBHOOK)

    send(now, channel)

    assert Notice.objects.get().next_at == now + timedelta(minutes=5)


def test_a_sender_that_dies_while_it_tells_leaves_the_notice_due(db: None, now: datetime) -> None:
    class Dying(Recorder):
        def post(self, body: object, headers: object) -> None:
            raise KeyboardInterrupt

    fire(now, content(now), channels=WEBHOOK)
    with pytest.raises(KeyboardInterrupt):
        send(now, Dying())
    channel = Recorder()

    assert send(now + timedelta(seconds=30), channel) == 0  # still claimed
    assert send(now + timedelta(seconds=61), channel) == 1


def test_one_of_two_senders_tells(db: None, now: datetime) -> None:
    second = Recorder()

    class Slow(Recorder):
        def post(self, body: object, headers: object) -> None:
            assert send(now, second) == 0

    fire(now, content(now), channels=WEBHOOK)

    assert send(now, Slow()) == 1
    assert second.calls == 0


def test_an_alert_that_ends_while_it_is_told_is_told_to_be_over_at_once(
    db: None, now: datetime
) -> None:
    class Ending(Recorder):
        def post(self, body: object, headers: object) -> None:
            fire(now, channels=WEBHOOK)

    fire(now, content(now), channels=WEBHOOK)
    send(now, Ending())
    channel = Recorder()

    send(now, channel)

    assert channel.statuses() == [("resolved", "checkout")]


@pytest.mark.parametrize("failed", [0, 2], ids=["told at once", "told after failures"])
def test_an_alert_that_ends_while_it_is_noted_as_told_is_told_to_be_over_as_well(
    transactional_db: None, now: datetime, monkeypatch: pytest.MonkeyPatch, failed: int
) -> None:
    fire(now, content(now), channels=WEBHOOK)
    Notice.objects.update(attempts=failed)
    channel = Recorder()
    has_tried = threading.Event()

    def end() -> None:
        later = now + timedelta(seconds=1)
        try:
            try:
                wait_for_no_lock()
                fire(later, channels=WEBHOOK)
            except OperationalError:  # what was told is being noted: this has to wait
                has_tried.set()
                connection.close()
                fire(later, channels=WEBHOOK)
        finally:
            has_tried.set()
            connection.close()

    ending = threading.Thread(target=end)

    def next_word_in_between(told: Told, *, is_resolved: bool) -> Told | None:
        if channel.calls and not ending.ident:
            # It is told, and seen to fire still: the end comes now, or waits until that is noted.
            ending.start()
            assert has_tried.wait(HUNG_S)
        return next_word(told, is_resolved=is_resolved)

    monkeypatch.setattr(sending, "next_word", next_word_in_between)

    send(now, channel)
    ending.join(HUNG_S)
    send(now + timedelta(hours=1), channel)

    assert channel.statuses() == [("firing", "checkout"), ("resolved", "checkout")]


def wait_for_no_lock() -> None:
    """Fail from now on where this connection would have to wait for another."""
    is_sqlite = connection.vendor == "sqlite"
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 0" if is_sqlite else "SET lock_timeout = '1ms'")


def test_the_end_of_an_older_alert_never_ends_its_successor(db: None, now: datetime) -> None:
    channel = Recorder()
    fire(now, content(now), channels=MANAGER)
    send(now, channel, ChannelKind.ALERTMANAGER)
    fire(now + timedelta(seconds=5), channels=MANAGER)
    later = now + timedelta(seconds=6)
    fire(later, content(later), channels=MANAGER)

    send(later, channel, ChannelKind.ALERTMANAGER)

    assert [alert["startsAt"] for alert in channel.bodies[-1]] == ["2026-11-02T02:14:03.000Z"]
    assert len(channel.bodies) == 2
    assert sorted(Notice.objects.values_list("told", flat=True)) == ["firing", "resolved"]


def test_many_alerts_go_in_few_posts_and_the_rest_next_time(db: None, now: datetime) -> None:
    channel = Recorder()
    fire(now, *(content(now, f"service-{number}") for number in range(230)), channels=WEBHOOK)

    assert send(now, channel) == 200
    assert [len(body["alerts"]) for body in channel.bodies] == [50, 50, 50, 50]
    assert send(now, channel) == 30
    assert len({service for _, service in channel.statuses()}) == 230


def test_what_was_over_a_day_ago_is_not_told_any_more(db: None, now: datetime) -> None:
    channel = Recorder()
    fire(now, content(now), channels=WEBHOOK)
    fire(now, channels=WEBHOOK)

    assert send(now + timedelta(days=1, seconds=1), channel) == 0
    assert Alert.objects.count() == 1

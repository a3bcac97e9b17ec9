from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.core.cache import cache
from redis.exceptions import ConnectionError as CacheRefuses

from controlplane.telemetry.selectors import Freshness, forget_pictures, read_picture
from controlplane.telemetry.services.collect import collect_fleet
from controlplane.telemetry.sources import shared_cache
from controlplane.telemetry.sources.fake import FakeSource
from controlplane.telemetry.sources.port import SourceUnavailable
from controlplane.telemetry.sources.shared_cache import CacheAway

pytestmark = pytest.mark.django_db


def collect(now: datetime, *, failure: str = "") -> None:
    source = FakeSource()
    if not failure:
        collect_fleet(environment="prod", source=source, now=now)
        return
    source.failure = SourceUnavailable(failure)
    with pytest.raises(SourceUnavailable):
        collect_fleet(environment="prod", source=source, now=now)


def take_the_cache_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise CacheRefuses("connection refused")

    for name in ("get", "set", "add", "delete"):
        monkeypatch.setattr(cache, name, refuse)


def test_a_picture_is_live_for_three_intervals(now: datetime) -> None:
    collect(now)

    last_moment = read_picture("prod", now + timedelta(seconds=15))
    too_late = read_picture("prod", now + timedelta(seconds=16))

    assert (last_moment.state, last_moment.reason) == (Freshness.LIVE, "")
    assert too_late.state is Freshness.STALE


def test_the_age_counts_from_the_time_the_figures_are_true_for(now: datetime) -> None:
    collect(now)

    read = read_picture("prod", now + timedelta(seconds=5))

    assert read.age_s == 20.0
    assert read.as_of == now - timedelta(seconds=15)


def test_a_picture_from_the_future_is_not_the_present_and_the_next_one_takes_its_place(
    now: datetime,
) -> None:
    collect(now)
    an_hour_before = now - timedelta(hours=1)  # the clock was set back

    read = read_picture("prod", an_hour_before)
    assert (read.state, read.age_s) == (Freshness.STALE, 0.0)
    assert read.reason.startswith(f"These figures are dated {now:%H:%M:%S} UTC, which is still to")

    collect(an_hour_before + timedelta(seconds=5))
    again = read_picture("prod", an_hour_before + timedelta(seconds=6))
    assert again.state is Freshness.LIVE
    assert again.picture is not None
    assert again.picture.collected_at == (an_hour_before + timedelta(seconds=5)).timestamp()


def test_two_clocks_that_differ_by_a_second_do_not_make_a_picture_old(now: datetime) -> None:
    collect(now)

    assert read_picture("prod", now - timedelta(seconds=1)).state is Freshness.LIVE


def test_a_stale_picture_names_prometheus_when_prometheus_is_down(now: datetime) -> None:
    collect(now)
    for seconds in range(5, 40, 5):
        collect(now + timedelta(seconds=seconds), failure="Connection refused.")

    read = read_picture("prod", now + timedelta(seconds=36))

    assert read.state is Freshness.STALE
    assert read.picture is not None
    assert read.reason == ("Prometheus has not answered since 02:14:05 UTC. Connection refused.")


def test_a_stale_picture_names_the_worker_when_the_worker_is_down(now: datetime) -> None:
    collect(now)

    read = read_picture("prod", now + timedelta(minutes=2))

    assert read.reason == "The worker has not collected since 02:14:00 UTC."


def test_before_the_first_picture_the_page_learns_why_there_is_none(now: datetime) -> None:
    nothing = read_picture("prod", now)
    collect(now, failure="Connection refused.")
    failing = read_picture("prod", now)

    assert nothing.state is failing.state is Freshness.UNAVAILABLE
    assert nothing.reason.startswith("Nothing has been collected yet")
    assert failing.reason.startswith("Prometheus has not answered since 02:14:00 UTC")


def test_without_the_cache_the_last_copy_of_this_process_is_shown(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(now)
    read_picture("prod", now)
    take_the_cache_away(monkeypatch)

    soon = read_picture("prod", now + timedelta(seconds=4))
    later = read_picture("prod", now + timedelta(seconds=40))

    assert soon.state is Freshness.LIVE
    assert later.state is Freshness.STALE
    assert later.picture is not None
    assert later.reason.startswith("The shared cache does not answer; these figures are")


def test_without_the_cache_and_without_a_copy_there_is_nothing_to_show(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(now)
    forget_pictures()
    take_the_cache_away(monkeypatch)

    read = read_picture("prod", now)

    assert read.state is Freshness.UNAVAILABLE
    assert read.reason.startswith("The shared cache does not answer; there is nothing to show")


def test_an_emptied_cache_does_not_take_the_picture_away(now: datetime) -> None:
    collect(now)
    read_picture("prod", now)
    cache.clear()

    read = read_picture("prod", now + timedelta(seconds=5))

    assert read.picture is not None


def test_a_cache_that_failed_is_left_alone_for_a_moment(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    time_s = [100.0]

    def refuse(key: str) -> None:
        asked.append(key)
        raise CacheRefuses("connection refused")

    monkeypatch.setattr(cache, "get", refuse)
    monkeypatch.setattr(shared_cache, "monotonic_s", lambda: time_s[0])

    for _ in range(3):
        with pytest.raises(CacheAway):
            shared_cache.read("a")
    time_s[0] += shared_cache.REST_S
    with pytest.raises(CacheAway):
        shared_cache.read("b")

    assert asked == ["a", "b"]

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_network

import pytest
from django.conf import LazySettings
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from redis.exceptions import ConnectionError as CacheAway

from controlplane.access.domain.sign_ins import BUCKETS, Limits, TooManySignIns, counters_of
from controlplane.access.models import AuditEntry
from controlplane.access.services import password_queue, sign_in_counts, sign_ins
from controlplane.access.services.password_queue import PasswordQueue
from controlplane.access.services.sign_in_counts import COUNTS, SignInCounts
from controlplane.access.services.sign_ins import sign_in
from controlplane.kernel.errors import Unavailable
from dashboards.forms import sign_in as form

PASSWORD = "correct horse battery"
HERE, THERE = "198.51.100.1", "203.0.113.9"
LIMITS = Limits(window_s=300, per_name_and_address=5, per_address=30, per_name=100)


@pytest.fixture(autouse=True)
def fresh_counters(monkeypatch: pytest.MonkeyPatch, now: datetime) -> Iterator[None]:
    cache.clear()
    COUNTS.forget()
    monkeypatch.setattr(form, "utc_now", lambda: now)
    yield
    cache.clear()
    COUNTS.forget()


@pytest.fixture
def ann(db: None) -> User:
    return User.objects.create_user("ann", password=PASSWORD)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names whose password was looked at, which is what costs."""
    names: list[str] = []

    def counted(*, username: str, password: str) -> object:
        names.append(username)
        return authenticate(username=username, password=password)

    monkeypatch.setattr(sign_ins, "authenticate", counted)
    return names


def guess(name: str, now: datetime, *, address: str = HERE, browser: str = "") -> bool:
    """Try a wrong password; False when it was not even looked at."""
    try:
        assert sign_in(
            name=name, password="wrong", address=address, browser=browser, now=now
        ) is None  # fmt: skip
    except TooManySignIns:
        return False
    return True


def enter(name: str, now: datetime, *, address: str = HERE, browser: str = "") -> User | None:
    return sign_in(name=name, password=PASSWORD, address=address, browser=browser, now=now)


def test_of_thirty_wrong_passwords_in_a_row_five_are_looked_at(
    ann: User, now: datetime, looked_at: list[str]
) -> None:
    answers = [guess("ann", now) for _ in range(30)]

    assert answers == [True] * 5 + [False] * 25
    assert looked_at == ["ann"] * 5


def test_even_the_right_password_waits_for_the_end_of_the_window_which_is_said(
    ann: User, now: datetime
) -> None:
    for _ in range(5):
        guess("ann", now)

    with pytest.raises(TooManySignIns) as caught:
        enter("ann", now)

    assert "Try again after 02:15:00 UTC, in 1 minute" in caught.value.message
    assert caught.value.retry_after_s == 60
    assert enter("ann", now + timedelta(seconds=60)) == ann


def test_somebody_else_elsewhere_still_gets_in(ann: User, now: datetime) -> None:
    bob = User.objects.create_user("bob", password=PASSWORD)
    for number in range(40):
        guess(f"ann{number % 10}", now)

    assert enter("bob", now, address=THERE) == bob
    assert enter("ann", now, address=THERE) == ann
    with pytest.raises(TooManySignIns):
        enter("bob", now)


def test_a_list_of_names_from_one_address_ends_at_thirty(
    db: None, now: datetime, looked_at: list[str]
) -> None:
    for number in range(100):
        guess(f"name{number}", now)

    assert len(looked_at) == 30


def test_a_botnet_guesses_one_name_a_hundred_times_and_cannot_shut_a_known_browser_out(
    ann: User, now: datetime, looked_at: list[str]
) -> None:
    for number in range(150):
        guess("ann", now, address=f"192.0.2.{number}")

    assert len(looked_at) == 100
    with pytest.raises(TooManySignIns):
        enter("ann", now, address=THERE)
    assert enter("ann", now, address=THERE, browser="ann's laptop") == ann


def test_a_known_browser_has_five_guesses_as_well(ann: User, now: datetime) -> None:
    answers = [guess("ann", now, browser="ann's laptop") for _ in range(6)]

    assert answers == [True] * 5 + [False]


def test_right_passwords_are_not_counted(ann: User, now: datetime) -> None:
    for _ in range(40):
        assert enter("ann", now) == ann


def test_whoever_is_over_the_strict_limit_uses_up_none_of_the_wide_ones(
    ann: User, now: datetime
) -> None:
    for _ in range(200):
        guess("ann", now)

    assert guess("somebody", now)
    assert guess("ann", now, address=THERE)


def test_ipv6_addresses_of_one_customer_count_as_one(ann: User, now: datetime) -> None:
    answers = [guess("ann", now, address=f"2001:db8:1:2::{number:x}") for number in range(6)]

    assert answers == [True] * 5 + [False]


def test_made_up_names_share_a_bounded_number_of_counters(now: datetime) -> None:
    keys = {
        counter.key
        for number in range(2000)
        for counter in counters_of(
            "x" * 10_000 + str(number), HERE, "", limits=LIMITS, secret=b"s", now=now
        )
    }

    assert max(len(key) for key in keys) < 60
    assert {int(key.rpartition(":")[2]) < BUCKETS for key in keys} == {True}


class AwayCache:
    """A cache that does not answer."""

    def __init__(self) -> None:
        self.asked = 0

    def add(self, *_args: object, **_options: object) -> bool:
        self.asked += 1
        raise CacheAway("connection refused")

    incr = add


def test_without_a_cache_each_process_counts_by_itself(
    ann: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_counts, "cache", AwayCache())

    answers = [guess("ann", now) for _ in range(7)]

    assert answers == [True] * 5 + [False] * 2
    assert enter("ann", now, address=THERE) == ann


def test_a_cache_that_goes_away_forgets_nothing_of_this_process(
    ann: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        guess("ann", now)
    monkeypatch.setattr(sign_in_counts, "cache", AwayCache())

    assert [guess("ann", now) for _ in range(2)] == [True, False]


def test_an_attempt_that_ends_in_the_next_window_does_not_begin_that_one_again() -> None:
    COUNTS.take("sign-in:name:8:1", keep_s=60)
    COUNTS.give_back("sign-in:name:7:1", keep_s=60)

    assert COUNTS.take("sign-in:name:8:1", keep_s=60) == 2


def test_processes_count_together_and_a_dead_cache_is_not_asked_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time_s = 100.0
    one, other = SignInCounts(lambda: time_s), SignInCounts(lambda: time_s)
    one.take("sign-in:name:7:1", keep_s=60)

    assert other.take("sign-in:name:7:1", keep_s=60) == 2

    away = AwayCache()
    monkeypatch.setattr(sign_in_counts, "cache", away)
    assert [other.take("sign-in:name:7:1", keep_s=60) for _ in range(3)] == [2, 3, 4]
    assert away.asked == 1
    time_s += 6
    other.take("sign-in:name:7:1", keep_s=60)
    assert away.asked == 2


def test_success_failure_and_the_first_refusal_are_in_the_audit_log(
    ann: User, now: datetime
) -> None:
    enter("ann", now)
    for _ in range(20):
        guess("ann", now)

    entries = list(AuditEntry.objects.order_by("number").values_list("action", "actor", "subject"))

    assert entries == [
        ("sign_in.succeeded", "ann", "user:ann"),
        *[("sign_in.refused", "anonymous", "user:ann")] * 5,
        ("sign_in.throttled", "anonymous", "user:ann"),
    ]
    assert {entry.data["address"] for entry in AuditEntry.objects.all()} == {HERE}


@pytest.mark.parametrize(
    "name", ["my-secret-password", "x" * 100_000, "ann\n{}", "ann\x1b[2J", "a\x00b", "\u202eann"]
)
def test_what_no_user_is_named_is_not_written_down(ann: User, now: datetime, name: str) -> None:
    for _ in range(7):
        guess(name, now)

    for entry in AuditEntry.objects.all():
        assert (entry.subject, entry.actor) == ("user:unknown", "anonymous")
        assert set(entry.data) <= {"address", "limit"}


def test_no_password_is_in_the_audit_log(ann: User, now: datetime) -> None:
    enter("ann", now)
    guess("ann", now)

    written = " ".join(str(row) for row in AuditEntry.objects.values())
    assert PASSWORD not in written
    assert "wrong" not in written


def test_an_inactive_user_is_refused_like_a_wrong_password(ann: User, now: datetime) -> None:
    User.objects.filter(pk=ann.pk).update(is_active=False)

    assert enter("ann", now) is None
    assert AuditEntry.objects.get().action == "sign_in.refused"


def test_a_password_that_was_not_looked_at_is_not_counted(
    ann: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = PasswordQueue(at_once=0, waiting=0)
    with monkeypatch.context() as patched:
        patched.setattr(password_queue, "PASSWORDS", full)
        for _ in range(10):
            with pytest.raises(Unavailable):
                enter("ann", now)

    assert enter("ann", now) == ann


def test_the_page_says_when_to_try_again(client: Client, ann: User) -> None:
    for _ in range(5):
        assert client.post("/login/", {"username": "ann", "password": "no"}).status_code == 200

    answer = client.post("/login/", {"username": "ann", "password": PASSWORD, "next": "/changes/"})

    html = answer.content.decode()
    assert answer.status_code == 429
    assert answer["Retry-After"] == "60"
    assert "Try again after 02:15:00 UTC" in html
    assert 'value="ann"' in html
    assert 'value="/changes/"' in html
    assert PASSWORD not in html


def test_a_full_queue_is_a_503_at_once(
    client: Client, ann: User, monkeypatch: pytest.MonkeyPatch, looked_at: list[str]
) -> None:
    queue = PasswordQueue(at_once=1, waiting=0)
    monkeypatch.setattr(password_queue, "PASSWORDS", queue)

    with queue.turn():
        answer = client.post("/login/", {"username": "ann", "password": PASSWORD})

    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"
    assert "try again in 5 seconds" in answer.content.decode()
    assert looked_at == []
    assert client.post("/login/", {"username": "ann", "password": PASSWORD}).status_code == 302


def test_addresses_behind_our_proxy_are_told_apart_and_forged_ones_are_not(
    client: Client, ann: User, settings: LazySettings
) -> None:
    def status(password: str, forwarded_for: str) -> int:
        return client.post(
            "/login/",
            {"username": "ann", "password": password},
            headers={"X-Forwarded-For": forwarded_for},
        ).status_code

    forged = [status("no", f"192.0.2.{number}") for number in range(6)]
    settings.TIDEGATE = replace(settings.TIDEGATE, trusted_proxies=(ip_network("127.0.0.1"),))
    proxied = [status("no", f"192.0.2.{number}, {HERE}") for number in range(6)]

    assert forged == proxied == [200] * 5 + [429]
    assert status(PASSWORD, THERE) == 302


def test_a_browser_that_signed_in_before_is_not_shut_out_by_others(
    client: Client, ann: User, now: datetime, settings: LazySettings
) -> None:
    client.post("/login/", {"username": "ann", "password": PASSWORD})
    client.post("/logout/")
    for number in range(101):
        guess("ann", now, address=f"192.0.2.{number}")

    stranger = Client().post("/login/", {"username": "ann", "password": PASSWORD})
    forger = Client()
    forger.cookies["tidegate_browser"] = client.cookies["tidegate_browser"].value + "x"
    forged = forger.post("/login/", {"username": "ann", "password": PASSWORD})
    known = client.post("/login/", {"username": "ann", "password": PASSWORD})

    assert (stranger.status_code, forged.status_code, known.status_code) == (429, 429, 302)
    assert client.cookies["tidegate_browser"]["httponly"]


def test_the_admin_pages_have_no_door_of_their_own(client: Client, ann: User) -> None:
    answer = client.get("/admin/login/?next=/admin/access/team/")
    tried = client.post("/admin/login/", {"username": "ann", "password": PASSWORD})

    assert answer["Location"] == "/login/?next=/admin/access/team/"
    assert tried["Location"].startswith("/login/")
    assert "sessionid" not in client.cookies


def test_who_may_not_enter_the_admin_pages_is_told_so_rather_than_led_round(
    client: Client, ann: User
) -> None:
    client.force_login(ann)

    answer = client.get("/admin/", follow=True)

    assert answer.status_code == 403
    assert "You may not do this" in answer.content.decode()

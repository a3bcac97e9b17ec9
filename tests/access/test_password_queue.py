from __future__ import annotations

from threading import Event, Thread

import pytest
from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher, check_password, identify_hasher
from django.test import override_settings

from controlplane.access.services.password_queue import PasswordQueue
from controlplane.kernel.errors import Unavailable
from controlplane.project.settings import base


def test_beyond_those_that_may_wait_a_password_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = PasswordQueue(at_once=1, waiting=0)

    def waits(**_options: object) -> bool:
        raise AssertionError("it waited")

    with queue.turn():
        monkeypatch.setattr(queue._free, "acquire", waits)
        with pytest.raises(Unavailable) as caught, queue.turn():
            pass
        monkeypatch.undo()

    assert caught.value.retry_after_s == 5
    with queue.turn():
        pass


def test_a_password_whose_turn_does_not_come_in_time_is_dropped() -> None:
    queue = PasswordQueue(at_once=1, waiting=1, wait_s=0)

    with queue.turn():
        for _ in range(3):  # its place is free again each time
            with pytest.raises(Unavailable), queue.turn():
                pass


def test_a_turn_ends_also_when_the_check_fails() -> None:
    queue = PasswordQueue(at_once=1, waiting=0)

    with pytest.raises(ZeroDivisionError), queue.turn():
        raise ZeroDivisionError

    with queue.turn():
        pass


def test_one_is_worked_on_while_the_others_wait() -> None:
    queue = PasswordQueue(at_once=1, waiting=2, wait_s=60)
    at_work: list[int] = []
    most: list[int] = []
    done = [Event(), Event()]

    def check(ready: Event) -> None:
        with queue.turn():
            at_work.append(1)
            most.append(len(at_work))
            at_work.pop()
        ready.set()

    threads = [Thread(target=check, args=(ready,), daemon=True) for ready in done]
    with queue.turn():
        for thread in threads:
            thread.start()
        assert most == []
    for thread in threads:
        thread.join(60)

    assert [ready.is_set() for ready in done] == [True, True]
    assert most == [1, 1]


@override_settings(PASSWORD_HASHERS=base.PASSWORD_HASHERS)
def test_passwords_are_hashed_with_scrypt_and_older_ones_go_on_working() -> None:
    stored = PBKDF2PasswordHasher().encode("correct horse battery", "salt", iterations=1000)
    renewed: list[str] = []

    assert settings.PASSWORD_HASHERS[0].endswith("ScryptPasswordHasher")
    assert not check_password("wrong", stored)
    assert check_password("correct horse battery", stored, setter=renewed.append)
    assert renewed == ["correct horse battery"]
    assert identify_hasher(stored).algorithm == "pbkdf2_sha256"

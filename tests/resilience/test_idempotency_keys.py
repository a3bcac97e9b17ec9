from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from django.db import connection

from controlplane.kernel.errors import Conflict, InvalidInput
from controlplane.resilience.models import IdempotencyKey
from controlplane.resilience.services import idempotency
from controlplane.resilience.services.idempotency import Claim, StoredAnswer
from tests.waiting import HUNG_S

ANSWER = StoredAnswer(201, {"id": 17}, {"Location": "/x"})


def claim(now: datetime, *, key: str = "k", request_hash: str = "h") -> Claim | StoredAnswer:
    return idempotency.claim(client="user:1", key=key, request_hash=request_hash, now=now)


def claimed(now: datetime) -> Claim:
    result = claim(now)
    assert isinstance(result, Claim)
    return result


@pytest.mark.django_db
def test_a_repeat_gets_the_stored_answer(now: datetime) -> None:
    idempotency.store_answer(claim=claimed(now), answer=ANSWER)

    assert claim(now + timedelta(hours=23)) == ANSWER
    assert IdempotencyKey.objects.count() == 1


@pytest.mark.django_db
def test_a_repeat_while_the_first_is_worked_on_is_a_conflict(now: datetime) -> None:
    claimed(now)

    with pytest.raises(Conflict, match="still being worked on"):
        claim(now + timedelta(seconds=1))


@pytest.mark.django_db
def test_a_key_used_for_a_different_request_is_refused(now: datetime) -> None:
    idempotency.store_answer(claim=claimed(now), answer=ANSWER)

    with pytest.raises(InvalidInput, match="a different request"):
        claim(now, request_hash="other")


@pytest.mark.django_db
def test_another_client_may_use_the_same_key(now: datetime) -> None:
    claimed(now)

    other = idempotency.claim(client="user:2", key="k", request_hash="h", now=now)

    assert isinstance(other, Claim)


@pytest.mark.django_db
def test_a_key_given_back_may_be_used_again(now: datetime) -> None:
    idempotency.release(claim=claimed(now))

    assert isinstance(claim(now), Claim)


@pytest.mark.django_db
def test_an_abandoned_claim_is_taken_over_and_its_late_answer_refused(now: datetime) -> None:
    abandoned = claimed(now)

    taken = claim(now + idempotency.ABANDONED_AFTER)

    assert isinstance(taken, Claim)
    with pytest.raises(Conflict, match="took over"):
        idempotency.store_answer(claim=abandoned, answer=ANSWER)
    idempotency.release(claim=abandoned)
    idempotency.store_answer(claim=taken, answer=ANSWER)


@pytest.mark.django_db
def test_expired_keys_are_purged_and_the_others_stay(now: datetime) -> None:
    claimed(now)
    claim(now + timedelta(hours=1), key="later")

    assert idempotency.purge_expired(now=now + idempotency.KEPT_FOR) == 1
    assert IdempotencyKey.objects.get().key == "later"


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_the_database_lets_one_act(now: datetime) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def attempt() -> None:
        try:
            barrier.wait(HUNG_S)
            claim(now)
            outcomes.append("claimed")
        except Conflict:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HUNG_S)

    assert sorted(outcomes) == ["claimed", "refused", "refused", "refused"]

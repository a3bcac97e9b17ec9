"""What is served of a publication, and which step of it is in force."""

from __future__ import annotations

import json
import math
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.delivery.domain.compile import rfc3339
from controlplane.delivery.domain.schedule import early_tags, next_due_unix, step_index
from controlplane.delivery.domain.snapshot import Step
from tests.delivery.builders import NOW, snapshot

AFTER = {"inbound": {"deadline_ms": 1000}}
LAST = {"inbound": {"deadline_ms": 500}}


def test_a_body_holds_the_policy_and_what_is_scheduled_after_it() -> None:
    first = snapshot(7, scheduled=[(60, AFTER), (90.5, LAST)]).steps[0]

    assert json.loads(first.body) == {
        "schema": "tidegate/v1",
        "environment": "prod",
        "service": "checkout",
        "version": 3,
        "sequence": 7,
        "etag": "7-0-9f3c",
        "issued_at": "2026-11-02T02:14:00Z",
        "policy": {"inbound": {"deadline_ms": 3000}},
        "scheduled": [
            {
                "at": "2026-11-02T02:15:00Z",
                "reason": "override 1 ends",
                "etag": "7-1-9f3c",
                "policy": AFTER,
            },
            {
                "at": "2026-11-02T02:15:30.500000Z",
                "reason": "override 2 ends",
                "etag": "7-2-9f3c",
                "policy": LAST,
            },
        ],
        "poll": {"interval_s": 10, "jitter": 0.2, "max_stale_s": 86400},
    }


def test_each_later_step_has_its_own_etag_and_only_what_comes_after_it() -> None:
    steps = snapshot(7, scheduled=[(60, AFTER), (90, LAST)]).steps

    assert [step.etag for step in steps] == ["7-0-9f3c", "7-1-9f3c", "7-2-9f3c"]
    assert json.loads(steps[1].body)["policy"] == AFTER
    assert [later["etag"] for later in json.loads(steps[1].body)["scheduled"]] == ["7-2-9f3c"]
    assert json.loads(steps[2].body)["scheduled"] == []
    assert {json.loads(step.body)["sequence"] for step in steps} == {7}


def test_compiled_bodies_take_no_more_memory_than_their_bytes() -> None:
    """Thousands of them are held for as long as the process lives."""
    policy = {"outbound": {"dependencies": {f"dependency-{n}": {"max": n} for n in range(80)}}}
    snapshot(0, policy=policy)
    tracemalloc.start()
    try:
        compiled = [snapshot(number, policy=policy) for number in range(1, 51)]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken < 2 * sum(len(each.steps[0].body) for each in compiled)


def test_an_unregistered_service_is_named_in_its_body_and_nowhere_else_changed() -> None:
    policy = {"outbound": {"dependencies": {"x": {"service": ""}}}}
    default = snapshot(4, service="", policy=policy)

    ours = default.for_service("newcomer")

    assert json.loads(ours.steps[0].body) == {
        **json.loads(default.steps[0].body),
        "service": "newcomer",
    }
    assert ours.steps[0].etag == default.steps[0].etag


def test_a_step_takes_over_the_moment_it_is_due() -> None:
    steps = snapshot(scheduled=[(60, AFTER)]).steps
    due = (NOW + timedelta(seconds=60)).timestamp()

    assert step_index(steps, due - 0.000_1) == 0
    assert step_index(steps, due) == 1
    assert next_due_unix(steps, 0) == due
    assert next_due_unix(steps, 1) == math.inf


def test_only_a_step_due_within_seconds_counts_for_a_client_with_a_fast_clock() -> None:
    steps = snapshot(scheduled=[(60, AFTER), (7200, LAST)]).steps

    assert early_tags(steps, 0, NOW.timestamp()) == ()
    assert early_tags(steps, 0, NOW.timestamp() + 56) == (b'"7-1-9f3c"',)


@given(st.lists(st.floats(0, 1e6), max_size=8).map(sorted), st.floats(-1e6, 2e6))
def test_the_step_in_force_is_the_last_one_that_has_begun(ats: list[float], now: float) -> None:
    steps = [Step(0.0, "first", b""), *(Step(at, str(at), b"") for at in ats)]

    index = step_index(steps, now)

    assert all(step.at_unix <= now for step in steps[1 : index + 1])
    assert all(step.at_unix > now for step in steps[index + 1 : index + 2])


def test_times_are_rfc_3339_in_utc() -> None:
    assert rfc3339(NOW) == "2026-11-02T02:14:00Z"
    assert rfc3339(NOW + timedelta(milliseconds=250)) == "2026-11-02T02:14:00.250000Z"


@pytest.mark.parametrize("fields", [{}, {"cohort": "canary", "ratio": 0.1, "salt": "s"}])
def test_a_body_says_when_it_is_for_a_part_of_the_instances(fields: dict[str, Any]) -> None:
    (step,) = snapshot(7, **fields).steps

    assert json.loads(step.body).get("cohort") == fields.get("cohort")

"""Values that are each in range and cannot all be meant are refused on the complete policy."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.errors import Problem
from controlplane.policies.domain.checks import check_policy
from controlplane.policies.domain.resolve import Layer, resolve
from controlplane.policies.domain.schema import EXAMPLE, builtin_policy
from tests.policies.domain.documents import at

DEFAULTS = "outbound.defaults"
ORDERS = 'inbound.endpoints["POST /orders"]'


def problems_of(document: dict[str, Any]) -> list[Problem]:
    return check_policy(resolve([Layer("version", "v1", document)]).policy)


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        (
            at("inbound.deadline_ms", 100),
            "inbound.concurrency.queue.timeout_ms",
            "a request may wait 100 ms for a slot, which is all of its deadline "
            "(inbound.deadline_ms 100 ms): set timeout_ms under 100, or queue.max 0 for no queue",
        ),
        (
            at(ORDERS, {"deadline_ms": 50, "concurrency": {"max": 9}}),
            f"{ORDERS}.concurrency.queue.timeout_ms",
            "a request may wait 100 ms for a slot, which is all of its deadline "
            f"({ORDERS}.deadline_ms 50 ms): set timeout_ms under 50, or queue.max 0 for no queue",
        ),
        (
            at('inbound.endpoints["GET /cart"].idempotency.required', True),
            'inbound.endpoints["GET /cart"].idempotency.required',
            "GET changes nothing and is sent without an Idempotency-Key: every ordinary request "
            "would be refused; set required false, or ask it of POST or PATCH",
        ),
        (
            at(ORDERS, {"deadline_ms": 2500, "idempotency": {"ttl_s": 2}}),
            f"{ORDERS}.idempotency.ttl_s",
            "a key would be forgotten after 2 s while its first request may still run "
            "(deadline_ms 2500): set ttl_s to at least 3",
        ),
        (
            at("inbound.endpoints", {"GET /a/{id}/b": {}, "GET /a/{sku}/b": {}}),
            'inbound.endpoints["GET /a/{sku}/b"]',
            "names the same requests as GET /a/{id}/b: keep one of them",
        ),
        (
            at("inbound.tenants.default.burst", 5),
            "inbound.tenants.default.per_s",
            "missing: a tenant's limit needs per_s, in requests/s per instance; no layer gives it",
        ),
        (
            at("inbound.tenants.named.acme", {}),
            "inbound.tenants.named.acme.per_s",
            "missing: a tenant's limit needs per_s, in requests/s per instance; no layer gives it",
        ),
        (
            at(f"{ORDERS}.tenants.named.acme.burst", 2),
            f"{ORDERS}.tenants.named.acme.per_s",
            "missing: a tenant's limit needs per_s, in requests/s per instance; no layer gives it",
        ),
        (
            at(f"{DEFAULTS}.timeouts.attempt_ms", 200),
            f"{DEFAULTS}.timeouts.connect_ms",
            "connecting may take 250 ms, but the attempt that includes it only 200 ms: set "
            "connect_ms to at most 200, or raise attempt_ms",
        ),
        (
            at("outbound.dependencies.payments.timeouts.connect_ms", 1001),
            "outbound.dependencies.payments.timeouts.connect_ms",
            "connecting may take 1001 ms, but the attempt that includes it only 1000 ms: set "
            "connect_ms to at most 1000, or raise attempt_ms",
        ),
        (
            at(f"{DEFAULTS}.retry.on", []),
            f"{DEFAULTS}.retry.on",
            "3 attempts, but no failure is retried: name some, such as connect_error and "
            "timeout, or set max_attempts to 1",
        ),
        (
            at(f"{DEFAULTS}.retry.backoff.base_ms", 2001),
            f"{DEFAULTS}.retry.backoff.base_ms",
            "the first wait, 2001 ms, is above the longest, 2000 ms: set base_ms to at most "
            "2000, or raise max_ms",
        ),
        (
            at(f"{DEFAULTS}.retry.budget", {"ratio": 0, "min_per_s": 0.05}),
            f"{DEFAULTS}.retry.budget.min_per_s",
            "0.05 retries/s over 10 s is less than one, so none is ever let through: set "
            "min_per_s to 0 if that is meant, or to at least 0.1",
        ),
        (
            at(f"{DEFAULTS}.breaker.window.size", 3601),
            f"{DEFAULTS}.breaker.window.size",
            "3601 is a number of seconds when kind is time: set at most 3600, or kind count for "
            "a number of calls",
        ),
        (
            at(f"{DEFAULTS}.breaker", {"window": {"kind": "count", "size": 10}}),
            f"{DEFAULTS}.breaker.min_calls",
            "the window holds 10 calls, so 20 are never seen and the breaker never judges: set "
            "min_calls to at most 10, or raise window.size",
        ),
    ],
    ids=[
        "queue as long as the deadline", "queue as long as an endpoint's deadline",
        "key demanded of GET", "key forgotten before the deadline", "one route twice",
        "tenant default without rate", "named tenant without rate",
        "tenant at an endpoint without rate", "connect above attempt",
        "connect above attempt of one dependency", "retries on nothing", "backoff upside down",
        "floor under one retry", "time window over an hour", "more calls than the window",
    ],
)  # fmt: skip
def test_a_contradiction_is_named_with_what_would_be_right(
    document: dict[str, Any], path: str, message: str
) -> None:
    assert problems_of(document) == [Problem(path, message)]


@pytest.mark.parametrize(
    "document",
    [
        {},
        EXAMPLE,
        at("inbound.rate.per_s", 0),
        at("inbound.shedding.level", 3),
        at("inbound.concurrency.queue.max", 0) | {"lifecycle": {}},
        {"inbound": {"deadline_ms": 1, "concurrency": {"queue": {"max": 0}}}},
        {"inbound": {"rate": {"per_s": 5}, "endpoints": {"GET /": {"rate": {"per_s": 9}}}}},
        {"inbound": {"endpoints": {"GET /a/{id}": {}, "POST /a/{sku}": {}, "GET /a/b": {}}}},
        at(f"{DEFAULTS}.retry", {"max_attempts": 1, "on": []}),
        at(f"{DEFAULTS}.retry.budget", {"ratio": 0, "min_per_s": 0}),
        at(f"{DEFAULTS}.timeouts.attempt_ms", 60_000),
        at(f"{DEFAULTS}.breaker.mode", "forced_open"),
    ],
    ids=[
        "nothing", "an example", "refuse everything", "shed nearly everything", "no queue",
        "no queue under a short deadline", "endpoint above its service", "different requests",
        "no retries", "no retry budget", "attempt above the deadline", "forced open",
    ],
)  # fmt: skip
def test_what_an_engineer_may_need_at_night_is_no_contradiction(document: dict[str, Any]) -> None:
    assert problems_of(document) == []


def test_a_contradiction_in_the_defaults_is_told_once() -> None:
    document = {
        "outbound": {
            "defaults": {"timeouts": {"attempt_ms": 200}},
            "dependencies": {"payments": {}, "fraud": {"timeouts": {"attempt_ms": 100}}},
        }
    }

    assert [problem.path for problem in problems_of(document)] == [
        "outbound.defaults.timeouts.connect_ms",
        "outbound.dependencies.fraud.timeouts.connect_ms",
    ]


def test_every_contradiction_is_reported() -> None:
    document = {
        "inbound": {"deadline_ms": 50},
        "outbound": {
            "defaults": {
                "timeouts": {"connect_ms": 2000},
                "retry": {"on": [], "backoff": {"max_ms": 10}},
                "breaker": {"window": {"kind": "count", "size": 5}},
            }
        },
    }

    assert len(problems_of(document)) == 5


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("inbound.deadline_ms", 0, "0 is outside 1 to 600000 ms"),
        (
            "outbound.defaults.retry.budget",
            {},
            "missing: a complete policy has retry budget here",
        ),
        (
            "inbound.endpoints",
            {"GET /": None},
            "null deletes in a layer; a complete policy leaves it out",
        ),
    ],
    ids=["out of range", "missing", "a deletion"],
)
def test_a_policy_that_no_layer_may_hold_is_refused_before_it_is_served(
    path: str, value: Any, message: str
) -> None:
    policy = builtin_policy()
    *parents, name = path.split(".")
    place = policy
    for parent in parents:
        place = place[parent]
    place[name] = value

    assert message in [problem.message for problem in check_policy(policy)]


def test_an_empty_policy_is_not_complete() -> None:
    assert [problem.path for problem in check_policy({})] == ["inbound", "outbound", "lifecycle"]

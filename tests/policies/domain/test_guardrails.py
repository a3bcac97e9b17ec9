"""What is allowed and perhaps not wise is said in a sentence that an engineer can act on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from controlplane.policies.domain.checks import check_policy
from controlplane.policies.domain.fields import field_for
from controlplane.policies.domain.guardrails import Guardrail, check_guardrails, retry_wait_ms
from controlplane.policies.domain.resolve import Layer, resolve
from controlplane.policies.domain.schema import builtin_policy
from tests.policies.domain.documents import at, documents

DEFAULTS = "outbound.defaults"
PAYMENTS = "outbound.dependencies.payments"
ORDERS = 'inbound.endpoints["POST /orders"]'


def found(document: dict[str, Any]) -> list[Guardrail]:
    return check_guardrails(resolve([Layer("version", "v1", document)]).policy)


@pytest.mark.parametrize(
    ("document", "verdict", "path", "sentence"),
    [
        (
            at(PAYMENTS, {"timeouts": {"attempt_ms": 600}, "retry": {"max_attempts": 2}}),
            "ok",
            f"{PAYMENTS}.timeouts.attempt_ms",
            "The deadline of 3000 ms covers 2 attempts of 600 ms plus 50 ms of backoff.",
        ),
        (
            at(f"{PAYMENTS}.retry.max_attempts", 1),
            "ok",
            f"{PAYMENTS}.timeouts.attempt_ms",
            "The deadline of 3000 ms covers one attempt of 1000 ms.",
        ),
        (
            {},
            "warn",
            f"{DEFAULTS}.timeouts.attempt_ms",
            "The deadline of 3000 ms is shorter than 3 attempts of 1000 ms plus 150 ms of "
            "backoff: the last attempt may be cut up to 150 ms early.",
        ),
        (
            at(PAYMENTS, {"timeouts": {"attempt_ms": 5000}, "retry": {"max_attempts": 1}}),
            "warn",
            f"{PAYMENTS}.timeouts.attempt_ms",
            "The deadline of 3000 ms is shorter than one attempt of 5000 ms: the last attempt "
            "may be cut up to 2000 ms early.",
        ),
        (
            at(f"{PAYMENTS}.timeouts.attempt_ms", 2000),
            "stop",
            f"{PAYMENTS}.timeouts.attempt_ms",
            "The deadline of 3000 ms is shorter than 3 attempts of 2000 ms plus 150 ms of "
            "backoff: when calls to payments time out, the last attempt is never made. Lower "
            "max_attempts to 1, or attempt_ms to 950.",
        ),
        (
            at(f"{PAYMENTS}.retry", {"backoff": {"base_ms": 2000}}),
            "stop",
            f"{PAYMENTS}.timeouts.attempt_ms",
            "The deadline of 3000 ms is shorter than 3 attempts of 1000 ms plus 4000 ms of "
            "backoff: when calls to payments time out, the last attempt is never made. Lower "
            "max_attempts to 2.",
        ),
        (
            at(f"{PAYMENTS}.retry.methods", "all"),
            "stop",
            f"{PAYMENTS}.retry.methods",
            "Retries of calls to payments repeat POST and PATCH without an Idempotency-Key, "
            "which may then act twice: set methods to idempotent, and let callers send a key.",
        ),
        (
            at(f"{PAYMENTS}.retry", {"methods": "all", "max_attempts": 1}),
            "ok",
            f"{PAYMENTS}.retry.methods",
            "No retries of calls to payments, so nothing acts twice.",
        ),
        (
            {},
            "ok",
            f"{DEFAULTS}.retry.methods",
            "Retries of calls stay on idempotent methods and on what has an Idempotency-Key.",
        ),
        (
            {},
            "ok",
            f"{DEFAULTS}.retry.budget.ratio",
            "Retries of calls may add 10% to the load at most.",
        ),
        (
            at(f"{PAYMENTS}.retry.budget.ratio", 0.3),
            "warn",
            f"{PAYMENTS}.retry.budget.ratio",
            "Retries of calls to payments may add 30% to the load; 10% is usual.",
        ),
        (
            at(f"{PAYMENTS}.retry.budget.ratio", 1),
            "stop",
            f"{PAYMENTS}.retry.budget.ratio",
            "Retries of calls to payments may add 100% to the load: that is no budget; 10% is "
            "usual.",
        ),
        (
            at(f"{PAYMENTS}.retry.budget", {"ratio": 0, "min_per_s": 0}),
            "warn",
            f"{PAYMENTS}.retry.budget.ratio",
            "The retry budget is 0: calls to payments are never retried.",
        ),
        (
            at(f"{PAYMENTS}.retry.budget.min_per_s", 50),
            "warn",
            f"{PAYMENTS}.retry.budget.min_per_s",
            "Each instance may always make 50 retries/s, whatever the ratio says: on a quiet "
            "dependency that is no budget.",
        ),
        (
            at(f"{PAYMENTS}.retry.backoff.jitter", "none"),
            "warn",
            f"{PAYMENTS}.retry.backoff.jitter",
            "Without jitter, callers that failed together come back together: set full.",
        ),
        (
            at(f"{PAYMENTS}.breaker.mode", "forced_open"),
            "warn",
            f"{PAYMENTS}.breaker.mode",
            "Forced open: all calls to payments fail at once.",
        ),
        (
            at(f"{DEFAULTS}.breaker.mode", "forced_open"),
            "stop",
            f"{DEFAULTS}.breaker.mode",
            "Forced open: all calls fail at once.",
        ),
        (
            at(f"{PAYMENTS}.breaker.mode", "disabled"),
            "warn",
            f"{PAYMENTS}.breaker.mode",
            "Disabled: nothing stops calls to payments when they all fail.",
        ),
        (
            at(f"{PAYMENTS}.timeouts.attempt_ms", 600),
            "warn",
            f"{PAYMENTS}.breaker.slow_call_ms",
            "A call is cut off after 600 ms, so none is ever as slow as 1000 ms: only failures "
            "open this breaker.",
        ),
        (
            {
                "outbound": {
                    "defaults": {"timeouts": {"attempt_ms": 5000}},
                    "dependencies": {"payments": {}, "fraud": {}},
                }
            },
            "warn",
            "outbound.dependencies",
            "All 2 dependencies have the same large attempt timeout, 5000 ms: set each a little "
            "over its own p99.",
        ),
        (
            at("inbound.rate.per_s", 0),
            "stop",
            "inbound.rate.per_s",
            "A rate of 0 refuses every request.",
        ),
        (
            at("inbound.shedding.level", 3),
            "stop",
            "inbound.shedding.level",
            "Shed level 3 refuses every request that does not say critical_plus; one that says "
            "nothing counts as critical.",
        ),
        (
            at("inbound.tenants.named.acme.per_s", 1500.5),
            "warn",
            "inbound.tenants.named.acme.per_s",
            "1500.5 requests/s for one tenant are more than the 1000 that all tenants get "
            "together: it never binds.",
        ),
        (
            at(f"{ORDERS}.rate.per_s", 1200),
            "warn",
            f"{ORDERS}.rate.per_s",
            "1200 requests/s for one endpoint are more than the 1000 of the whole service: it "
            "never binds.",
        ),
        (
            at(f"{ORDERS}.concurrency.max", 300),
            "warn",
            f"{ORDERS}.concurrency.max",
            "300 requests at once for one endpoint are more than the 200 of the whole service: "
            "it never binds.",
        ),
        (
            at(ORDERS, {"rate": {"per_s": 20}, "tenants": {"default": {"per_s": 30}}}),
            "warn",
            f"{ORDERS}.tenants.default.per_s",
            "30 requests/s for one tenant are more than the 20 that all tenants get together: "
            "it never binds.",
        ),
        (
            at(f"{ORDERS}.deadline_ms", 80),
            "warn",
            f"{ORDERS}.deadline_ms",
            "A request may wait 100 ms for a slot of the service, which is all of this "
            "endpoint's deadline of 80 ms.",
        ),
        (
            at(f"{ORDERS}.deadline_ms", 60_000),
            "warn",
            "lifecycle.drain.timeout_s",
            "A stopping instance waits 30 s; requests may take 60 s, and the last of them are "
            "cut off.",
        ),
    ],
    ids=[
        "attempts fit", "one attempt fits", "last attempt cut", "one attempt cut",
        "last attempt never made", "backoff leaves no room", "POST retried", "nothing retried",
        "idempotent", "budget", "large budget", "no budget", "budget of nothing", "large floor",
        "no jitter", "forced open", "all forced open", "disabled", "never slow",
        "one large timeout", "refuse all", "shed all", "tenant above all", "endpoint rate above",
        "endpoint concurrency above", "tenant above its endpoint", "queue as long as a deadline",
        "drain under the deadline",
    ],
)  # fmt: skip
def test_a_judgement_names_the_field_and_what_will_happen(
    document: dict[str, Any], verdict: Any, path: str, sentence: str
) -> None:
    assert Guardrail(verdict, path, sentence) in found(document)


def test_the_built_in_policy_has_nothing_to_stop_for() -> None:
    verdicts = [each.verdict for each in check_guardrails(builtin_policy())]

    assert verdicts == ["warn", "ok", "ok"]


def test_different_or_small_timeouts_are_no_single_large_one() -> None:
    small = at("outbound.dependencies", {"payments": {}, "fraud": {}})
    different = at(
        "outbound.dependencies",
        {
            "payments": {"timeouts": {"attempt_ms": 5000}},
            "fraud": {"timeouts": {"attempt_ms": 6000}},
        },
    )

    for document in (small, different):
        assert "outbound.dependencies" not in [each.path for each in found(document)]


def test_the_longest_wait_is_the_sum_of_bounded_backoffs() -> None:
    backoff = {"base_ms": 100, "multiplier": 3, "max_ms": 500, "jitter": "full"}

    assert retry_wait_ms({"max_attempts": 1, "backoff": backoff}) == 0
    assert retry_wait_ms({"max_attempts": 4, "backoff": backoff}) == 100 + 300 + 500


@given(documents())
def test_every_servable_policy_can_be_judged(document: Any) -> None:
    policy = resolve([Layer("version", "v1", document)]).policy
    if any("missing" in problem.message for problem in check_policy(policy)):
        return

    for each in check_guardrails(policy):
        assert each.sentence.endswith(".")
        assert each.path == "outbound.dependencies" or field_for(each.path) is not None

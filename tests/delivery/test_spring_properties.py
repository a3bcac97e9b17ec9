"""Every policy field against the resilience4j properties that follow from it: a golden each."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from controlplane.delivery.adapters.spring import (
    JITTER_FACTOR,
    Origin,
    Properties,
    environment_document,
    list_properties,
    nanoseconds,
)
from controlplane.delivery.adapters.spring_fields import (
    CALL_ROWS,
    ENDPOINT_ROWS,
    LIMIT_ROWS,
    OWN_ROWS,
    Row,
    list_not_mapped,
    table,
)
from controlplane.policies.domain.fields import list_fields
from tests.delivery.adapters import complete

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = Origin("prod", "checkout", version=3, sequence=41, etag="41-0-9f3c", cohort="stable")
ENDPOINT = "POST /orders"
DURATION = re.compile(r"[0-9]+(ns|us|ms|s|d)")  # DurationStyle.SIMPLE of Spring Boot

CALL: list[tuple[str, object, Properties]] = [
    ("timeouts.attempt_ms", 600, {"timelimiter.timeoutDuration": "600ms"}),
    ("retry.max_attempts", 5, {"retry.maxAttempts": 5}),
    ("retry.on", [], {"retry.maxAttempts": 1}),
    ("retry.backoff.base_ms", 300, {"retry.waitDuration": "150ms"}),
    ("retry.backoff.base_ms", 1, {"retry.waitDuration": "1ms"}),
    ("retry.backoff.base_ms", 75, {"retry.waitDuration": "38ms"}),
    ("retry.backoff.multiplier", 1.5, {"retry.exponentialBackoffMultiplier": 1.5}),
    ("retry.backoff.multiplier", 1, {"retry.exponentialBackoffMultiplier": 1.0}),
    ("retry.backoff.max_ms", 5000, {"retry.exponentialMaxWaitDuration": "5000ms"}),
    (
        "retry.backoff.jitter",
        "none",
        {
            "retry.waitDuration": "50ms",
            "retry.enableRandomizedWait": False,
            "retry.randomizedWaitFactor": "absent",
        },
    ),
    ("breaker.mode", "shadow", {"circuitbreaker.initialState": "METRICS_ONLY"}),
    ("breaker.mode", "forced_open", {"circuitbreaker.initialState": "FORCED_OPEN"}),
    ("breaker.mode", "disabled", {"circuitbreaker.initialState": "DISABLED"}),
    ("breaker.window.kind", "count", {"circuitbreaker.slidingWindowType": "COUNT_BASED"}),
    ("breaker.window.size", 100, {"circuitbreaker.slidingWindowSize": 100}),
    ("breaker.min_calls", 7, {"circuitbreaker.minimumNumberOfCalls": 7}),
    ("breaker.failure_rate", 0.07, {"circuitbreaker.failureRateThreshold": 7.0}),
    ("breaker.failure_rate", 0.01, {"circuitbreaker.failureRateThreshold": 1.0}),
    ("breaker.slow_call_ms", 400, {"circuitbreaker.slowCallDurationThreshold": "400ms"}),
    ("breaker.slow_call_rate", 1, {"circuitbreaker.slowCallRateThreshold": 100}),
    ("breaker.open_s", 0.5, {"circuitbreaker.waitDurationInOpenState": "500ms"}),
    ("breaker.open_s", 3600, {"circuitbreaker.waitDurationInOpenState": "3600000ms"}),
    (
        "breaker.half_open_calls",
        3,
        {"circuitbreaker.permittedNumberOfCallsInHalfOpenState": 3},
    ),
    ("timeouts.connect_ms", 100, {}),
    ("retry.methods", "all", {}),
    ("retry.budget.ratio", 0.2, {}),
    ("retry.budget.min_per_s", 2, {}),
    ("retry.budget.window_s", 20, {}),
]
LIMITS: list[tuple[str, object, Properties]] = [
    ("concurrency.max", 40, {"bulkhead.maxConcurrentCalls": 40}),
    ("concurrency.queue.max", 0, {"bulkhead.maxWaitDuration": "0ms"}),
    ("concurrency.queue.max", 10, {}),
    ("concurrency.queue.timeout_ms", 250, {"bulkhead.maxWaitDuration": "250ms"}),
    ("concurrency.mode", "shadow", {"bulkhead.maxConcurrentCalls": 2147483647}),
    ("rate.per_s", 500, {"ratelimiter.limitRefreshPeriod": "400ms"}),
    ("rate.per_s", 300, {"ratelimiter.limitRefreshPeriod": "666666667ns"}),
    ("rate.per_s", 0.5, {"ratelimiter.limitRefreshPeriod": "400s"}),
    ("rate.per_s", 1e-9, {"ratelimiter.limitRefreshPeriod": "365d"}),
    (
        "rate.per_s",
        0,
        {"ratelimiter.limitForPeriod": 1, "ratelimiter.limitRefreshPeriod": "365d"},
    ),
    (
        "rate.burst",
        1,
        {"ratelimiter.limitForPeriod": 1, "ratelimiter.limitRefreshPeriod": "1ms"},
    ),
    ("rate.mode", "shadow", {"ratelimiter.limitForPeriod": 2147483647}),
    ("tenants.default.per_s", 50, {}),
    ("tenants.default.burst", 5, {}),
    ("tenants.named.<tenant>.per_s", 5, {}),
    ("tenants.named.<tenant>.burst", 5, {}),
    ("tenants.mode", "shadow", {}),
    ("deadline_ms", 900, {}),
]
ONLY_ENDPOINTS: list[tuple[str, object, Properties]] = [
    ("criticality", "sheddable", {}),
    ("idempotency.required", True, {}),
    ("idempotency.ttl_s", 60, {}),
]
OWN: list[tuple[str, object, Properties]] = [
    ("inbound.shedding.level", 1, {"tidegate.shedding.level": 1}),
    (
        "inbound.shedding.default_criticality",
        "sheddable",
        {"tidegate.shedding.default-criticality": "sheddable"},
    ),
    ("inbound.features.<feature>.enabled", False, {"tidegate.features.<feature>": False}),
    ("inbound.features.<feature>.off_at_level", 2, {"tidegate.features.<feature>": False}),
    ("lifecycle.drain.not_ready_s", 1, {}),
    ("lifecycle.drain.timeout_s", 9, {}),
]
STANDING: dict[str, Any] = {
    "inbound": {
        "tenants": {"default": {"per_s": 9}, "named": {"acme": {"per_s": 1}}},
        "endpoints": {
            ENDPOINT: {
                "rate": {}, "concurrency": {}, "tenants": {"named": {"acme": {"per_s": 1}}},
                "idempotency": {},
            }
        },
    },
    "outbound": {"dependencies": {"payments": {}}},
}  # fmt: skip
"""Every part that a policy need not have."""


def merged(base: Any, patch: Any) -> Any:
    """RFC 7396, as far as tests need it."""
    if not isinstance(base, dict) or not isinstance(patch, dict):
        return patch
    return {**base, **{key: merged(base.get(key), value) for key, value in patch.items()}}


def patch_at(path: list[str], value: object) -> Any:
    for part in reversed(path):
        value = {part: value}
    return value


def changes(before: dict[str, Any], after: dict[str, Any]) -> Properties:
    """What differs between the properties of two documents; "absent" for one that went away."""
    old, new = (list_properties(complete(document), ORIGIN) for document in (before, after))
    return {
        name: new.get(name, "absent") for name in {**old, **new} if old.get(name) != new.get(name)
    }


def placed(expected: Properties, place: str) -> Properties:
    """Properties of resilience4j with the place of their instance between module and name."""
    return {
        f"resilience4j.{module}.{place}.{name}": value
        for (module, name), value in ((key.split("."), value) for key, value in expected.items())
    }


def named(cases: list[tuple[str, object, Properties]]) -> list[Any]:
    return [pytest.param(*case, id=f"{case[0]}={case[1]}") for case in cases]


@pytest.mark.parametrize(("field", "value", "expected"), named(CALL))
def test_a_dependency_becomes_an_instance(field: str, value: object, expected: Properties) -> None:
    path = ["outbound", "dependencies", "payments", *field.split(".")]

    changed = changes(STANDING, merged(STANDING, patch_at(path, value)))

    assert changed == placed(expected, "instances.payments")


@pytest.mark.parametrize(("field", "value", "expected"), named(CALL))
def test_the_defaults_of_all_dependencies_become_the_default_configuration(
    field: str, value: object, expected: Properties
) -> None:
    path = ["outbound", "defaults", *field.split(".")]

    assert changes({}, patch_at(path, value)) == placed(expected, "configs.default")


@pytest.mark.parametrize(("field", "value", "expected"), named(LIMITS))
def test_the_limits_of_a_service_become_the_instance_inbound(
    field: str, value: object, expected: Properties
) -> None:
    document: dict[str, Any] = {"inbound": {"tenants": STANDING["inbound"]["tenants"]}}
    path = ["inbound", *field.replace("<tenant>", "acme").split(".")]

    changed = changes(document, merged(document, patch_at(path, value)))

    assert changed == placed(expected, "instances.inbound")


@pytest.mark.parametrize(("field", "value", "expected"), named(LIMITS + ONLY_ENDPOINTS))
def test_the_limits_of_an_endpoint_become_an_instance_named_like_it(
    field: str, value: object, expected: Properties
) -> None:
    path = ["inbound", "endpoints", ENDPOINT, *field.replace("<tenant>", "acme").split(".")]

    changed = changes(STANDING, merged(STANDING, patch_at(path, value)))

    expected_here = placed(expected, "instances@")
    assert changed == {
        name.replace("instances@", f"instances[{ENDPOINT}]"): value
        for name, value in expected_here.items()
    }


@pytest.mark.parametrize(("field", "value", "expected"), named(OWN))
def test_what_is_no_part_of_resilience4j_is_told_to_the_application(
    field: str, value: object, expected: Properties
) -> None:
    level = 2 if "off_at_level" in field else 0
    document = {"inbound": {"shedding": {"level": level}, "features": {"search": {}}}}
    path = field.replace("<feature>", "search").split(".")

    changed = changes(document, merged(document, patch_at(path, value)))

    assert changed == {
        name.replace("<feature>", "search"): value for name, value in expected.items()
    }


def test_the_table_speaks_of_every_field_of_a_policy() -> None:
    told = {
        *(f"outbound.defaults.{row.field}" for row in CALL_ROWS),
        *(f"outbound.dependencies.<dependency>.{row.field}" for row in CALL_ROWS),
        *(f"inbound.{row.field}" for row in LIMIT_ROWS),
        *(f'inbound.endpoints["<endpoint>"].{row.field}' for row in (*LIMIT_ROWS, *ENDPOINT_ROWS)),
        *(row.field for row in OWN_ROWS),
    }

    assert told == {field.path for field in list_fields()}


@pytest.mark.parametrize(
    ("rows", "cases"),
    [(CALL_ROWS, CALL), (LIMIT_ROWS, LIMITS), (ENDPOINT_ROWS, ONLY_ENDPOINTS), (OWN_ROWS, OWN)],
    ids=["calls", "limits", "endpoints", "own"],
)
def test_the_table_names_exactly_the_properties_that_change(
    rows: tuple[Row, ...], cases: list[tuple[str, object, Properties]]
) -> None:
    seen: dict[str, set[str]] = {}
    for field, _, expected in cases:
        seen.setdefault(field, set()).update(expected)

    assert seen == {row.field: set(row.properties) for row in rows}


def test_the_documentation_has_the_table() -> None:
    page = (ROOT / "docs/adapters/spring-cloud-config.md").read_text()

    assert table() in page, "run: python -m controlplane.delivery.adapters.spring_fields"


def test_what_is_not_mapped_is_said_in_the_properties_too() -> None:
    properties = list_properties(complete({}), ORIGIN)

    said = [value for name, value in properties.items() if name.startswith("tidegate.not-mapped")]

    assert said == list_not_mapped()
    assert (
        "retry.budget.ratio, retry.budget.min_per_s, retry.budget.window_s: resilience4j has no "
        "retry budget: bound what retries add by maxAttempts"
    ) in said


@pytest.mark.parametrize(
    ("dependency", "key"),
    [
        ("payments", "instances.payments"),
        ("payments-eu", "instances.payments-eu"),
        ("payments.eu", "instances[payments.eu]"),
        ("payments_eu", "instances[payments_eu]"),
        ("Payments", "instances[Payments]"),
        ("a--b", "instances[a--b]"),
    ],
)
def test_a_name_that_spring_would_change_stands_in_brackets(dependency: str, key: str) -> None:
    policy = complete({"outbound": {"dependencies": {dependency: {}}}})

    properties = list_properties(policy, ORIGIN)

    assert f"resilience4j.retry.{key}.maxAttempts" in properties


def test_a_route_with_brackets_is_said_not_to_be_mapped() -> None:
    route = "GET /items[1]"
    policy = complete({"inbound": {"endpoints": {route: {"rate": {"per_s": 1}}}}})

    properties = list_properties(policy, ORIGIN)

    assert not any(f"instances[{route}" in name for name in properties)
    assert any(
        str(value).startswith(f"inbound.endpoints: {route}") for value in properties.values()
    )


def test_every_duration_is_one_that_spring_reads_and_none_is_in_fractions() -> None:
    properties = list_properties(complete(STANDING), ORIGIN)

    durations = {name: value for name, value in properties.items() if "Duration" in name}
    durations |= {
        name: value for name, value in properties.items() if name.endswith("RefreshPeriod")
    }

    assert len(durations) == 16
    assert [value for value in durations.values() if not DURATION.fullmatch(str(value))] == []


@pytest.mark.parametrize(
    ("value_ns", "shown"),
    [
        (86_400 * 10**9, "1d"),
        (90 * 10**9, "90s"),
        (1_500_000_000, "1500ms"),
        (1_500_000, "1500us"),
        (1_000, "1us"),
        (1, "1ns"),
    ],
)
def test_a_duration_stands_in_the_largest_unit_that_needs_no_fraction(
    value_ns: int, shown: str
) -> None:
    assert nanoseconds(value_ns) == shown


def test_full_jitter_waits_anywhere_between_nothing_and_the_bound() -> None:
    """What resilience4j's IntervalFunction makes of the properties is what the SDK does."""
    base_ms = 400
    retry = {"backoff": {"base_ms": base_ms}}
    policy = complete({"outbound": {"defaults": {"retry": retry}}})
    properties = list_properties(policy, ORIGIN)
    middle_ms = int(str(properties["resilience4j.retry.configs.default.waitDuration"])[:-2])
    chance = random.Random(7)

    delta_ms = JITTER_FACTOR * middle_ms
    waits_ms = [middle_ms - delta_ms + chance.random() * 2 * delta_ms for _ in range(2_000)]

    assert 0 <= min(waits_ms) < 0.02 * base_ms
    assert 0.98 * base_ms < max(waits_ms) <= base_ms
    assert abs(sum(waits_ms) / len(waits_ms) - base_ms / 2) < 0.03 * base_ms


def test_the_environment_is_the_one_that_spring_reads() -> None:
    document = environment_document(
        {"tidegate.version": 3}, ORIGIN, name="checkout", profiles=["prod", "eu"], label="main"
    )

    assert document == {
        "name": "checkout",
        "profiles": ["prod", "eu"],
        "label": "main",
        "version": "41-0-9f3c",
        "state": None,
        "propertySources": [{"name": "tidegate:checkout-prod", "source": {"tidegate.version": 3}}],
    }

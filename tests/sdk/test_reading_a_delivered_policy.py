from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.sdk.inbound import document, endpoint
from tidegate.errors import PolicyRejected
from tidegate.policy import SAFE_DEFAULTS, BreakerMode, Criticality, Mode, parse_policy


def changed(path: list[str], value: object) -> dict[str, Any]:
    whole = copy.deepcopy(document(endpoints={"POST /orders": endpoint()}))
    target: Any = whole
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return whole


def test_a_complete_policy_is_read_field_by_field() -> None:
    read = parse_policy(
        document(
            rate={"per_s": 500, "burst": 100, "mode": "shadow"},
            tenants={
                "default": {"per_s": 50, "burst": 20},
                "named": {"acme": {"per_s": 220, "burst": 60}},
            },
            endpoints={
                "POST /orders": endpoint(
                    criticality="critical_plus", idempotency={"required": True, "ttl_s": 86400}
                )
            },
            features={"recommendations": {"off_at_level": 1, "enabled": True}},
        )
    )

    assert (read.inbound.rate.per_s, read.inbound.rate.mode) == (500.0, Mode.SHADOW)
    assert read.inbound.tenants.named["acme"].burst == 60.0
    orders = read.inbound.endpoint("POST /orders")
    assert orders is not None
    assert orders.criticality is Criticality.CRITICAL_PLUS
    assert orders.idempotency is not None
    assert orders.idempotency.ttl_s == 86400.0
    assert orders.rate is None
    assert read.outbound.dependency("payments").breaker.mode is BreakerMode.AUTO
    assert read.lifecycle.drain.not_ready_s == 5.0


def test_an_endpoint_or_dependency_without_its_own_policy_has_the_general_one() -> None:
    read = parse_policy(document())

    assert read.inbound.endpoint("GET /") is None
    assert read.outbound.dependency("anything") is read.outbound.defaults


@pytest.mark.parametrize(
    ("level", "enabled", "is_on"),
    [(0, True, True), (1, True, True), (2, True, False), (3, True, False), (0, False, False)],
)
def test_a_feature_is_off_from_its_shed_level_on(level: int, enabled: bool, is_on: bool) -> None:
    read = parse_policy(
        document(
            shedding={"level": level, "default_criticality": "critical"},
            features={"recommendations": {"off_at_level": 2, "enabled": enabled}},
        )
    )

    assert read.inbound.feature_is_on("recommendations") is is_on
    assert read.inbound.feature_is_on("never mentioned")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("inbound", None, "inbound: missing, and a delivered policy is complete"),
        ("inbound", [], "inbound: expected an object, not a list"),
        ("inbound.deadline_ms", "3000", "inbound.deadline_ms: expected a number, not text"),
        ("inbound.deadline_ms", True, "inbound.deadline_ms: expected a number, not true or false"),
        ("inbound.deadline_ms", 0, "inbound.deadline_ms: 0 is outside 1 to 8.64e+07"),
        ("inbound.deadline_ms", float("nan"), "inbound.deadline_ms: nan is outside 1 to 8.64e+07"),
        ("inbound.rate", None, "inbound.rate: missing, and a delivered policy is complete"),
        ("inbound.rate.per_s", -1, "inbound.rate.per_s: -1 is outside 0 to 1e+07"),
        ("inbound.rate.mode", "off", "inbound.rate.mode: expected one of enforce, shadow"),
        ("inbound.rate.mode", ["x"], "inbound.rate.mode: expected one of enforce, shadow"),
        (
            "inbound.concurrency.max",
            1.5,
            "inbound.concurrency.max: expected a whole number, not 1.5",
        ),
        (
            "inbound.concurrency.max",
            10**400,
            "inbound.concurrency.max: 10000000000000000000... is outside 1 to 1e+07",
        ),
        ("inbound.shedding.level", 4, "inbound.shedding.level: 4 is outside 0 to 3"),
        ("inbound.tenants.named", [1], "inbound.tenants.named: expected an object, not a list"),
        (
            "lifecycle.drain.timeout_s",
            {},
            "lifecycle.drain.timeout_s: expected a number, not an object",
        ),
        (
            "outbound.defaults.retry.on",
            "503",
            "outbound.defaults.retry.on: expected a list, not text",
        ),
        (
            "outbound.defaults.retry.on",
            ["200"],
            "outbound.defaults.retry.on: '200' is not "
            "connect_error, timeout or a status from 400 to 599",
        ),
        (
            "outbound.defaults.breaker.failure_rate",
            50,
            "outbound.defaults.breaker.failure_rate: 50 is outside 0 to 1",
        ),
    ],
)
def test_what_cannot_be_trusted_is_refused_with_its_path(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(PolicyRejected) as caught:
        parse_policy(changed(path.split("."), value))

    assert str(caught.value) == message
    assert caught.value.path == path


def test_odd_names_are_quoted_in_the_path() -> None:
    broken = changed(["inbound", "endpoints", "POST /orders", "criticality"], "vital")

    with pytest.raises(PolicyRejected) as caught:
        parse_policy(broken)

    assert caught.value.path == 'inbound.endpoints["POST /orders"].criticality'


def test_a_document_that_is_no_object_is_refused() -> None:
    with pytest.raises(PolicyRejected, match="expected an object, not a list"):
        parse_policy([])  # type: ignore[arg-type]  # what the wire may bring


def test_fields_of_a_newer_control_plane_are_left_alone() -> None:
    whole = document(cooling={"fans": 3})

    assert parse_policy(whole) == parse_policy(document())


def test_the_built_in_policy_limits_everything_that_could_run_away() -> None:
    inbound = SAFE_DEFAULTS.inbound

    assert inbound.concurrency.mode is Mode.ENFORCE
    assert inbound.rate.mode is Mode.ENFORCE
    assert inbound.deadline_ms == 3000.0
    assert SAFE_DEFAULTS.outbound.defaults.retry.budget.ratio == 0.1


def test_a_policy_cannot_be_changed_after_it_was_read() -> None:
    read = parse_policy(document())

    with pytest.raises(AttributeError):
        read.inbound.rate.per_s = 1.0  # type: ignore[misc]  # that is the point
    with pytest.raises(TypeError):
        read.inbound.endpoints["GET /"] = None  # type: ignore[index]  # that is the point

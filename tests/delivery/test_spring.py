"""Spring Cloud Config over the hot path: whose environment is served, and to whom."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import pytest

from controlplane.delivery.adapters.spring import Origin, list_properties
from controlplane.delivery.domain.compile import compile_snapshot
from controlplane.delivery.domain.snapshot import CANARY, FLEET_DEFAULT
from controlplane.delivery.hotpath.auth import RateLimit
from controlplane.delivery.hotpath.problems import Answer, Refusal
from controlplane.delivery.hotpath.spring import SpringAdapter
from tests.delivery.adapters import World, body_of, complete, header, request, world
from tests.delivery.builders import CHECKOUT_TOKEN, NEWCOMER_TOKEN, published, snapshot

POLICY = complete({"outbound": {"dependencies": {"payments": {"timeouts": {"attempt_ms": 600}}}}})
ORIGIN = Origin("prod", "checkout", version=3, sequence=7, etag="7-0-9f3c", cohort="stable")
TIMEOUT = "resilience4j.timelimiter.instances.payments.timeoutDuration"


def ask(here: World, path: str = "/spring/checkout/prod", **fields: object) -> Answer:
    return SpringAdapter(here.gate).answer(request(path, **fields))  # type: ignore[arg-type]


def refusal_of(here: World, path: str = "/spring/checkout/prod", **fields: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        ask(here, path, **fields)
    return caught.value


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def test_the_environment_has_the_properties_of_the_policy() -> None:
    answer = ask(world(POLICY))

    assert (answer.status, header(answer, "content-type")) == (200, "application/json")
    document = body_of(answer)
    (source,) = document.pop("propertySources")
    assert document == {
        "name": "checkout", "profiles": ["prod"], "label": None,
        "version": "7-0-9f3c", "state": None,
    }  # fmt: skip
    assert source["source"] == list_properties(POLICY, ORIGIN)
    assert source["source"][TIMEOUT] == "600ms"


@pytest.mark.parametrize(
    ("path", "name", "profiles", "label"),
    [
        ("/spring/checkout/default", "checkout", ["default"], None),
        ("/spring/checkout/eu,prod", "checkout", ["eu", "prod"], None),
        ("/spring/application,checkout/prod", "application,checkout", ["prod"], None),
        ("/spring/checkout/prod/main", "checkout", ["prod"], "main"),
        ("/spring/checkout/prod/release(_)7", "checkout", ["prod"], "release/7"),
        ("/spring/checkout/prod/release/7", "checkout", ["prod"], "release/7"),
        ("/spring/checkout/prod/", "checkout", ["prod"], None),
    ],
)
def test_what_was_asked_for_comes_back_as_spring_expects_it(
    path: str, name: str, profiles: list[str], label: str | None
) -> None:
    document = body_of(ask(world(POLICY), path))

    assert (document["name"], document["profiles"], document["label"]) == (name, profiles, label)
    assert document["propertySources"][0]["source"][TIMEOUT] == "600ms"


@pytest.mark.parametrize(
    ("path", "field", "setting"),
    [
        ("/spring/payments/prod", "application", "spring.cloud.config.name"),
        ("/spring/application/prod", "application", "spring.cloud.config.name"),
        ("/spring/checkout/staging", "profile", "spring.cloud.config.profile"),
        ("/spring/checkout/default,eu", "profile", "spring.cloud.config.profile"),
    ],
)
def test_the_token_is_for_one_service_and_one_environment(
    path: str, field: str, setting: str
) -> None:
    refusal = refusal_of(world(POLICY), path)

    assert (refusal.status, refusal.field) == (403, field)
    assert refusal.detail == (
        "this token is for checkout in prod only: expected /spring/checkout/prod; "
        f"{setting} says what is asked for"
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {CHECKOUT_TOKEN}"},
        {"x-config-token": CHECKOUT_TOKEN},
        basic("checkout", CHECKOUT_TOKEN),
        basic("", CHECKOUT_TOKEN),
    ],
    ids=["bearer", "config token", "basic", "basic without a user"],
)
def test_the_token_comes_in_any_way_that_spring_can_send_it(headers: dict[str, str]) -> None:
    assert ask(world(POLICY), token=None, headers=headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-config-token": "tgs_no"},
        basic("checkout", "tgs_no"),
        basic("checkout", ""),
        {"authorization": "Basic !"},
        {"authorization": "Basic "},
        {"authorization": "Digest x"},
    ],
    ids=["none", "config token", "basic", "no password", "no base64", "nothing", "another scheme"],
)
def test_without_a_valid_token_there_is_nothing(headers: dict[str, str]) -> None:
    refusal = refusal_of(world(POLICY), token=None, headers=headers)

    assert refusal.status == 401
    assert refusal.headers[0][0] == b"www-authenticate"


def test_the_version_tells_one_policy_from_the_next() -> None:
    here = world(POLICY)
    before = body_of(ask(here))["version"]

    here.publish(snapshot(8, policy=complete({})))

    assert (before, body_of(ask(here))["version"]) == ("7-0-9f3c", "8-0-9f3c")


def test_the_end_of_an_override_takes_over_by_the_clock() -> None:
    here = world()
    here.publish(snapshot(8, policy=complete({}), scheduled=[(60.0, POLICY)]))
    before = body_of(ask(here))

    here.clock.pass_s(60)

    after = body_of(ask(here))
    assert (before["version"], after["version"]) == ("8-0-9f3c", "8-1-9f3c")
    assert after["propertySources"][0]["source"][TIMEOUT] == "600ms"


def test_a_known_tag_gets_304() -> None:
    here = world(POLICY)
    tag = header(ask(here), "etag") or ""

    again = ask(here, headers={"if-none-match": tag})

    assert (again.status, again.body, header(again, "etag")) == (304, b"", tag)


def test_an_instance_in_the_canary_gets_the_canary() -> None:
    here = world(POLICY)
    canary = replace(published(9, policy=complete({})), cohort=CANARY, ratio=1.0, salt="salt")
    here.publish(compile_snapshot(canary))

    named = body_of(ask(here, headers={"tidegate-instance": "pod-1"}))
    nameless = body_of(ask(here))

    assert (named["version"], nameless["version"]) == ("9-0-9f3c", "7-0-9f3c")
    assert named["propertySources"][0]["source"]["tidegate.cohort"] == "canary"
    assert nameless["propertySources"][0]["source"]["tidegate.cohort"] == "stable"


def test_services_on_the_fleet_default_each_read_their_own_name() -> None:
    here = World()
    here.publish(snapshot(5, service=FLEET_DEFAULT, policy=POLICY))
    adapter = SpringAdapter(here.gate)

    names = [
        body_of(adapter.answer(request(f"/spring/{service}/prod", token=token)))["propertySources"][
            0
        ]["source"]["tidegate.service"]
        for service, token in (("checkout", CHECKOUT_TOKEN), ("newcomer", NEWCOMER_TOKEN))
    ]

    assert names == ["checkout", "newcomer"]


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/spring/checkout", {}, 404),
        ("/spring/", {}, 404),
        ("/spring//prod", {}, 404),
        ("/spring/checkout/prod/" + "x" * 600, {}, 414),
        ("/spring/checkout/prod", {"method": "POST"}, 405),
        ("/spring/checkout/prod", {"headers": {"tidegate-instance": "pod 1"}}, 400),
        ("/spring/checkout/prod", {"headers": {"if-none-match": "7"}}, 400),
    ],
)
def test_what_is_no_request_for_an_environment_is_refused(
    path: str, fields: dict[str, object], status: int
) -> None:
    assert refusal_of(world(POLICY), path, **fields).status == status


def test_a_service_without_any_policy_is_not_found() -> None:
    here = World()
    here.store.is_loaded = True

    assert refusal_of(here).status == 404


def test_a_policy_that_was_damaged_by_hand_is_an_error_of_ours() -> None:
    refusal = refusal_of(world({"inbound": {}}))

    assert (refusal.status, refusal.code) == (500, "unreadable-policy")


def test_nothing_is_served_before_policies_are_loaded() -> None:
    assert refusal_of(World()).status == 503


def test_too_many_requests_are_told_when_to_come_back() -> None:
    here = world(POLICY, limit=RateLimit(per_s=1.0, burst=1))
    for _ in range(2):
        ask(here)

    refusal = refusal_of(here)

    assert refusal.status == 429
    assert dict(refusal.headers).keys() == {b"retry-after"}


def test_answers_tell_their_age_while_the_database_is_away() -> None:
    here = world(POLICY)
    here.store.behind_since_unix = here.clock() - 12.0

    answer = ask(here)

    assert (answer.status, header(answer, "age")) == (200, "12")

"""Discovery requests as Envoy sends them: answers and refusals."""

from __future__ import annotations

import json

import pytest

from controlplane.delivery.hotpath.problems import Refusal
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.hotpath.xds_nodes import REFUSED_AFTER
from tests.delivery.envoy_bench import KINDS, LEVEL_1, NODE, Bench, refusal


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("kind", "type_name"),
    [
        ("runtime", "envoy.service.runtime.v3.Runtime"),
        ("clusters", "envoy.config.cluster.v3.Cluster"),
        ("routes", "envoy.config.route.v3.RouteConfiguration"),
    ],
)
def test_the_first_request_is_answered_the_resources_in_force(
    bench: Bench, kind: str, type_name: str
) -> None:
    node = {**NODE, "metadata": {"tidegate": {"clusters": {"payments": ["10.0.0.7:80"]}}}}

    answer = bench.ask(kind, node=node)

    document = json.loads(answer.body)
    assert answer.status == 200
    assert document["type_url"] == f"type.googleapis.com/{type_name}"
    assert document["version_info"] == f"7-0-9f3c/{kind}"
    (resource,) = document["resources"]
    assert resource["@type"] == document["type_url"]
    assert resource["name"] == ("payments" if kind == "clusters" else "prod/checkout")


def test_a_node_that_has_the_version_is_answered_304_without_a_body(bench: Bench) -> None:
    answer = bench.ask("routes", "7-0-9f3c/routes")

    assert (answer.status, answer.body) == (304, b"")


@pytest.mark.parametrize("version", ["6-0-9f3c/routes", "7-0-9f3c/clusters", "7-0-9f3c", "x"])
def test_any_other_version_is_answered_with_the_resources(bench: Bench, version: str) -> None:
    assert bench.ask("routes", version).status == 200


@pytest.mark.parametrize("version", ["9-0-9f3c", "7-1-9f3c"], ids=["sequence", "step"])
def test_a_node_that_was_ahead_elsewhere_is_never_sent_back(bench: Bench, version: str) -> None:
    for _ in range(REFUSED_AFTER + 2):
        bench.clock.pass_s(2.0)
        for kind in KINDS:
            assert bench.ask(kind, f"{version}/{kind}").status == 304

    assert bench.marks() == [("applied", version)]


def test_the_same_position_with_another_tag_is_no_step_ahead(bench: Bench) -> None:
    assert bench.ask("routes", "7-0-0000/routes").status == 200


def test_a_policy_that_takes_over_by_the_clock_is_another_version(bench: Bench) -> None:
    bench.publish(8, scheduled=[(60.0, LEVEL_1)])
    assert bench.ask("runtime", "8-0-9f3c/runtime").status == 304

    bench.clock.pass_s(60.0)
    document = json.loads(bench.ask("runtime", "8-0-9f3c/runtime").body)

    assert document["version_info"] == "8-1-9f3c/runtime"
    assert document["resources"][0]["layer"]["tidegate.shed.sheddable"] == 100


def test_a_canary_reaches_its_part_of_the_nodes_and_its_end_reaches_them_too(
    bench: Bench,
) -> None:
    bench.publish(8, policy=LEVEL_1, cohort="canary", ratio=0.5)
    nodes = [{**NODE, "id": f"checkout-{number}"} for number in range(40)]

    sent = [json.loads(bench.ask("runtime", node=node).body)["version_info"] for node in nodes]
    again = [bench.ask("runtime", has, node=node) for node, has in zip(nodes, sent, strict=True)]

    assert set(sent) == {"7-0-9f3c/runtime", "8-0-9f3c/runtime"}
    assert {answer.status for answer in again} == {304}

    bench.publish(9, cohort="canary")  # ratio 0 ends it
    bench.publish(10)
    after = {json.loads(bench.ask("runtime", node=node).body)["version_info"] for node in nodes}

    assert after == {"10-0-9f3c/runtime"}


def test_an_answer_is_made_once_for_all_nodes_of_one_shape(bench: Bench) -> None:
    first = bench.ask("routes")

    same = bench.ask("routes", node={**NODE, "id": "checkout-2"})
    other = bench.ask(
        "routes", node={**NODE, "metadata": {"tidegate": {"inbound_cluster": "gateway"}}}
    )

    assert same is first
    assert json.loads(other.body)["resources"] != json.loads(first.body)["resources"]


def test_calls_have_routes_of_their_own(bench: Bench) -> None:
    answer = bench.ask("routes", resource_names=["prod/checkout/outbound"])

    (resource,) = json.loads(answer.body)["resources"]
    assert resource["name"] == "prod/checkout/outbound"


def test_a_service_that_is_called_outbound_has_inbound_routes_too() -> None:
    bench = Bench(service="outbound")

    answer = bench.ask("routes", resource_names=["prod/outbound"])

    assert [host["name"] for host in json.loads(answer.body)["resources"][0]["virtual_hosts"]] == [
        "service"
    ]


def test_only_the_resources_of_the_token_are_served(bench: Bench) -> None:
    found = refusal(bench, resource_names=["prod/payments"])

    assert (found.status, found.code) == (404, "unknown-resource")
    assert found.detail == "this token is for prod/checkout only"


def test_without_a_token_nothing_is_served(bench: Bench) -> None:
    with pytest.raises(Refusal) as caught:
        bench.adapter.answer(Request("POST", "/v3/discovery:runtime", b"", [], b"{}"))

    assert caught.value.status == 401


def test_before_policies_are_loaded_an_envoy_is_told_to_come_back(bench: Bench) -> None:
    bench.store.is_loaded = False

    found = refusal(bench)

    assert (found.status, found.code) == (503, "not-loaded")


def test_an_answer_that_the_database_does_not_confirm_says_its_age(bench: Bench) -> None:
    bench.store.behind_since_unix = bench.clock() - 40

    for version in (None, "7-0-9f3c/runtime"):
        assert dict(bench.ask("runtime", version).headers)[b"age"] == b"40"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v3/discovery:runtime", 405),
        ("POST", "/v3/discovery:listeners", 404),
        ("POST", "/v3/discovery:", 404),
    ],
)
def test_other_methods_and_kinds_are_refused(
    bench: Bench, method: str, path: str, status: int
) -> None:
    with pytest.raises(Refusal) as caught:
        bench.adapter.answer(Request(method, path, b"", [], b"{}"))

    assert caught.value.status == status


def test_a_policy_without_words_in_envoy_is_a_503_and_envoy_keeps_what_it_has(
    bench: Bench,
) -> None:
    bench.publish(8, policy={"inbound": {"deadline_ms": 0}})

    found = refusal(bench, "routes")

    assert (found.status, found.code) == (503, "not-mapped")
    assert refusal(bench, "routes").detail == found.detail

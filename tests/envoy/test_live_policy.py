"""A published change changes what a real Envoy does. How soon is in tests/soak."""

from __future__ import annotations

import httpx
import pytest

from tests.envoy.backend import burst, held_burst
from tests.envoy.conftest import OUTBOUND, ROUTES, RUNTIME, Edge
from tests.waiting import wait_until

pytestmark = pytest.mark.scenario


def test_a_circuit_breaker_refuses_beyond_concurrency_and_queue(edge: Edge) -> None:
    # A connection each, so that none stays open from before the limit.
    edge.backend.keeps_alive = False

    def statuses() -> list[int]:
        return held_burst(edge.backend, edge.url, 20, queued=6)

    edge.publish({"inbound": {"concurrency": {"max": 3, "queue": {"max": 6}}}})
    wait_until(lambda: 503 in statuses(), what="the limit")

    found = statuses()
    assert edge.backend.most_at_once == 3
    # Of the six that wait, some may do so for their connection to be made.
    assert 6 <= found.count(200) <= 9
    assert found.count(503) == 20 - found.count(200)


def test_concurrency_in_shadow_refuses_nobody(edge: Edge) -> None:
    limits = {"max": 1, "queue": {"max": 0}}
    edge.publish({"inbound": {"concurrency": limits}})
    wait_until(lambda: 503 in held_burst(edge.backend, edge.url, 8, queued=1), what="the limit")

    edge.publish({"inbound": {"concurrency": {**limits, "mode": "shadow"}}})

    wait_until(
        lambda: held_burst(edge.backend, edge.url, 8, queued=1) == [200] * 8,
        what="the limit to refuse nobody any more",
    )
    assert edge.backend.most_at_once >= 7


def test_the_shed_level_aborts_what_a_request_says_it_is(edge: Edge) -> None:
    sheddable = {"X-Criticality": "Sheddable"}

    edge.publish({"inbound": {"shedding": {"level": 1}}})

    wait_until(lambda: burst(edge.url, 1, headers=sheddable) == [503])
    assert httpx.get(edge.url, headers=sheddable).headers["retry-after"] == "1"
    assert httpx.get(edge.url).status_code == 200

    edge.publish({"inbound": {"shedding": {"level": 3}}})
    wait_until(lambda: burst(edge.url, 1) == [503])
    assert httpx.get(edge.url, headers={"X-Criticality": "critical_plus"}).status_code == 200
    assert edge.envoy.runtime("fault.http.abort.abort_percent") == "100"


def test_the_shed_level_aborts_what_an_endpoint_is(edge: Edge) -> None:
    endpoints = {
        "GET /items/{id}": {"criticality": "sheddable"},
        "POST /orders": {"criticality": "critical_plus"},
    }

    edge.publish({"inbound": {"endpoints": endpoints, "shedding": {"level": 1}}})

    wait_until(lambda: burst(edge.url + "/items/7", 1) == [503])
    assert httpx.get(edge.url + "/").status_code == 200
    assert httpx.post(edge.url + "/orders").status_code == 200
    said = {"X-Criticality": "critical"}
    assert httpx.get(edge.url + "/items/7", headers=said).status_code == 200


def test_admission_control_refuses_a_share_of_calls_that_fail(edge: Edge) -> None:
    edge.backend.status = 500
    assert set(burst(edge.url, 40)) == {500}
    breaker = {"mode": "auto", "failure_rate": 0.2, "min_calls": 1, "window": {"size": 30}}

    edge.publish(
        {"outbound": {"dependencies": {"gateway": {"breaker": {**breaker, "open_s": 60}}}}}
    )

    wait_until(lambda: 503 in burst(edge.url, 20))
    assert edge.envoy.stat("http.inbound.admission_control.rq_rejected") > 0


def test_a_breaker_that_is_forced_open_stops_every_call(edge: Edge) -> None:
    edge.publish({"outbound": {"dependencies": {"gateway": {"breaker": {"mode": "forced_open"}}}}})

    wait_until(lambda: burst(edge.url, 1) == [503])
    edge.backend.seen.clear()
    assert burst(edge.url, 5) == [503] * 5
    assert edge.backend.seen == []


def test_a_rate_in_shadow_counts_and_enforced_refuses(edge: Edge) -> None:
    rate = {"per_s": 0.01, "burst": 6}
    edge.publish({"inbound": {"rate": {**rate, "mode": "shadow"}}})
    edge.wait_for(RUNTIME, ROUTES)
    before = edge.envoy.stat("rate.http_local_rate_limit.rate_limited")
    assert burst(edge.url, 10) == [200] * 10
    assert edge.envoy.stat("rate.http_local_rate_limit.rate_limited") - before == 4

    edge.publish({"inbound": {"rate": rate}})

    wait_until(lambda: burst(edge.url, 1) == [429])
    assert httpx.get(edge.url).headers["retry-after"] == "1"


def test_a_token_bucket_is_exact(edge: Edge) -> None:
    edge.publish({"inbound": {"rate": {"per_s": 0.01, "burst": 5}}})
    wait_until(lambda: 429 in burst(edge.url, 20))

    # That burst may have begun under the policy before. This bucket is full, and met by one only.
    edge.publish({"inbound": {"rate": {"per_s": 0.01, "burst": 7}}})
    edge.wait_for(ROUTES)
    codes = burst(edge.url, 20)

    assert (codes.count(200), codes.count(429)) == (7, 13)


def test_each_tenant_has_its_own_bucket_and_each_endpoint_too(edge: Edge) -> None:
    tenants = {
        "default": {"per_s": 0.01, "burst": 2},
        "named": {"acme": {"per_s": 0.01, "burst": 4}},
    }
    long_one = "GET /" + "/".join(f"part{number}/{{id{number}}}" for number in range(12))
    endpoints = {"GET /search": {"rate": {"per_s": 0.01, "burst": 3}}, long_one: {}}
    edge.publish({"inbound": {"tenants": tenants, "endpoints": endpoints}})
    edge.wait_for(ROUTES)

    passed = {
        tenant: burst(edge.url, 6, headers={"X-Tenant": tenant}).count(200)
        for tenant in ("acme", "globex", "initech")
    }

    assert passed == {"acme": 4, "globex": 2, "initech": 2}
    assert burst(edge.url, 6) == [200] * 6
    assert burst(edge.url + "/search", 6).count(200) == 3


def test_a_deadline_cuts_a_request_off(edge: Edge) -> None:
    edge.backend.takes_s = 0.4

    edge.publish({"inbound": {"deadline_ms": 150}})

    wait_until(lambda: burst(edge.url, 1) == [504])


def test_retries_follow_the_policy_and_never_repeat_what_may_act_twice(edge: Edge) -> None:
    edge.backend.status = 503
    retry = {
        "max_attempts": 3, "on": ["503"], "backoff": {"base_ms": 1, "max_ms": 5},
        "budget": {"ratio": 1, "min_per_s": 100},
    }  # fmt: skip

    edge.publish({"outbound": {"dependencies": {"gateway": {"retry": retry}}}})

    wait_until(lambda: attempts(edge, "GET") == 3)
    assert attempts(edge, "POST") == 1
    assert attempts(edge, "POST", {"Idempotency-Key": "k1"}) == 3
    edge.wait_for(OUTBOUND)
    assert attempts(edge, "GET", outbound=True) == 3


def test_callers_cannot_set_retries_and_timeouts_of_their_own(edge: Edge) -> None:
    edge.backend.status = 503
    asked = {
        "X-Envoy-Retry-On": "5xx",
        "X-Envoy-Max-Retries": "9",
        "X-Envoy-Upstream-Rq-Timeout-Ms": "1",
        "X-Forwarded-For": "10.1.2.3",  # obeyed if that were an internal_address_config
    }

    assert attempts(edge, "GET", asked) == 1
    assert attempts(edge, "GET", asked, outbound=True) == 1
    edge.backend.status, edge.backend.takes_s = 200, 0.1
    assert httpx.get(edge.url, headers=asked).status_code == 200


def test_the_retry_budget_holds_retries_back(edge: Edge) -> None:
    edge.backend.status = 503
    retry = {"max_attempts": 3, "on": ["503"], "backoff": {"base_ms": 1, "max_ms": 5}}
    without = {**retry, "budget": {"ratio": 0, "min_per_s": 0}}
    edge.publish(
        {"outbound": {"dependencies": {"gateway": {"retry": {**retry, "budget": {"ratio": 1}}}}}}
    )
    edge.wait_for(RUNTIME, ROUTES)
    assert attempts(edge, "GET") == 3

    edge.publish({"outbound": {"dependencies": {"gateway": {"retry": without}}}})

    wait_until(lambda: attempts(edge, "GET") == 1)
    assert edge.envoy.stat("cluster.gateway.upstream_rq_retry_overflow") > 0


def test_a_breaker_by_count_ejects_a_host_and_takes_it_back(edge: Edge) -> None:
    edge.backend.status = 500
    breaker = {
        "mode": "auto", "min_calls": 4, "failure_rate": 0.5, "open_s": 1,
        "window": {"kind": "count", "size": 4},
    }  # fmt: skip
    # Admission control would refuse too; it is a filter of the inbound listener only.
    url = edge.envoy.outbound_url
    gateway = {"Host": "gateway"}
    assert burst(url, 6, headers=gateway) == [500] * 6

    edge.publish({"outbound": {"dependencies": {"gateway": {"breaker": breaker}}}})

    wait_until(lambda: 503 in burst(url, 6, headers=gateway))
    assert edge.envoy.stat("cluster.gateway.outlier_detection.ejections_enforced_consecutive_5xx")
    edge.backend.status = 200
    wait_until(lambda: burst(url, 1, headers=gateway) == [200])


def test_a_static_cluster_follows_the_breaker_that_all_dependencies_share(edge: Edge) -> None:
    edge.backend.status = 500
    breaker = {
        "mode": "auto", "min_calls": 4, "failure_rate": 0.5, "open_s": 1,
        "window": {"kind": "count", "size": 4},
    }  # fmt: skip
    url, legacy = edge.envoy.outbound_url, {"Host": "legacy"}

    edge.publish(
        {
            "outbound": {
                "defaults": {"breaker": breaker},
                "dependencies": {"gateway": {"breaker": breaker}, "legacy": {}},
            }
        }
    )
    edge.wait_for(RUNTIME, OUTBOUND)

    wait_until(lambda: 503 in burst(url, 6, headers=legacy))
    assert edge.envoy.stat("cluster.legacy.outlier_detection.ejections_enforced_consecutive_5xx")
    edge.backend.status = 200
    # The interval that was running goes on, Envoy's default of 10 s; then comes one of open_s.
    wait_until(lambda: burst(url, 1, headers=legacy) == [200])


def attempts(
    edge: Edge, method: str, headers: dict[str, str] | None = None, *, outbound: bool = False
) -> int:
    """How many attempts one request takes."""
    edge.backend.seen.clear()
    if outbound:
        burst(edge.envoy.outbound_url, 1, method, {"Host": "gateway", **(headers or {})})
    else:
        burst(edge.url, 1, method, headers)
    return len(edge.backend.seen)

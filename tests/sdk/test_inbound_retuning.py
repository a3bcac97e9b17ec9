from __future__ import annotations

import asyncio

from tests.sdk.inbound import HeldApp, Service, concurrency, endpoint, policy
from tidegate.dependency import FixedPolicy
from tidegate.middleware import TidegateMiddleware

TIGHT = {"per_s": 1, "burst": 2}


async def test_a_new_policy_rules_from_the_next_request_on() -> None:
    service = Service(policy())
    assert await service.statuses(1, x_criticality="sheddable") == [200]

    service.guard.retune(policy(shedding={"level": 1, "default_criticality": "critical"}))

    assert await service.statuses(1, x_criticality="sheddable") == [503]


async def test_publishing_again_refills_nobodys_bucket() -> None:
    limits = {
        "rate": TIGHT,
        "tenants": {"default": TIGHT, "named": {}},
        "endpoints": {"GET /search": endpoint(rate=TIGHT)},
    }
    service = Service(policy(**limits))
    await service.statuses(2, "/search", x_tenant="acme")

    service.guard.retune(policy(**limits, deadline_ms=1234))

    assert await service.statuses(1, "/search", x_tenant="acme") == [429]


async def test_counters_go_on_and_requests_in_flight_stay_counted() -> None:
    held = HeldApp()
    service = Service(policy(concurrency=concurrency(1)), held)
    running = asyncio.create_task(service.get())
    await held.until_started(1)
    await service.get()

    service.guard.retune(policy(concurrency=concurrency(1)))
    await service.get()

    assert service.rejected("concurrency") == 2
    held.release.set()
    await running
    assert (await service.get()).status_code == 200


async def test_an_endpoint_that_gains_and_loses_a_gate_mid_request_stays_consistent() -> None:
    held = HeldApp()
    gated = policy(endpoints={"GET /slow": endpoint(concurrency=concurrency(1))})
    service = Service(policy(), held)
    before = asyncio.create_task(service.get("/slow"))
    await held.until_started(1)

    service.guard.retune(gated)
    during = asyncio.create_task(service.get("/slow"))
    await held.until_started(2)
    service.guard.retune(policy())
    held.release.set()
    await asyncio.gather(before, during)
    service.guard.retune(gated)

    assert (await service.get("/slow")).status_code == 200


async def test_a_route_once_known_keeps_its_label_when_the_policy_drops_it() -> None:
    service = Service(policy(endpoints={"GET /products/{id}": endpoint(rate=TIGHT)}))
    await service.statuses(2, "/products/1")

    service.guard.retune(policy())

    assert await service.statuses(3, "/products/1") == [200, 200, 200]
    found = service.metrics.server_duration.child("/products/{id}", "GET", "200")
    assert sum(found.counts) == 5


async def test_the_middleware_follows_its_source() -> None:
    source = FixedPolicy(policy())

    middleware = TidegateMiddleware(HeldApp(), source)
    source.change(policy(shedding={"level": 3, "default_criticality": "critical"}))

    assert middleware.guard.policy.inbound.shedding.level == 3
    assert middleware.guard.metrics is source.metrics

from __future__ import annotations

import asyncio

import pytest

from tests.sdk.inbound import HeldApp, Service, concurrency, endpoint, policy, until

TIGHT = {"per_s": 1, "burst": 2}


async def test_beyond_the_rate_a_caller_gets_429_and_when_to_come_back() -> None:
    service = Service(policy(rate={"per_s": 0.25, "burst": 1}))

    await service.get()
    refused = await service.get()

    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["retry-after"] == "4"
    assert refused.json() == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "code": "rate",
        "detail": "The rate limit of this service or endpoint is reached.",
        "request_id": refused.headers["x-request-id"],
    }
    assert service.rejected("rate") == 1


async def test_after_the_advised_wait_the_caller_is_served() -> None:
    service = Service(policy(rate={"per_s": 0.25, "burst": 1}))
    await service.get()

    service.clock.advance(float((await service.get()).headers["retry-after"]))

    assert (await service.get()).status_code == 200


async def test_an_endpoint_has_its_own_rate_within_the_service() -> None:
    service = Service(policy(endpoints={"GET /products/{id}": endpoint(rate=TIGHT)}))

    assert await service.statuses(3, "/products/1") == [200, 200, 429]
    assert await service.statuses(3, "/elsewhere") == [200, 200, 200]
    assert service.rejected("rate", "/products/{id}") == 1


async def test_a_hot_tenant_is_limited_and_starves_nobody() -> None:
    limits = {"default": TIGHT, "named": {"acme": {"per_s": 1, "burst": 4}}}
    service = Service(policy(tenants=limits, rate={"per_s": 1, "burst": 8}))

    acme = await service.statuses(20, x_tenant="acme")
    globex = await service.statuses(3, x_tenant="globex")

    assert acme.count(200) == 4
    assert globex == [200, 200, 429]
    assert service.rejected("tenant_rate") == 17
    # Refused requests used up nothing of the service's rate: 8 - 4 - 2 are left.
    assert await service.statuses(3) == [200, 200, 429]


async def test_an_endpoint_limits_tenants_besides_the_service() -> None:
    own = endpoint(tenants={"default": {"per_s": 1, "burst": 1}, "named": {}})
    service = Service(
        policy(tenants={"default": TIGHT, "named": {}}, endpoints={"GET /search": own})
    )

    assert await service.statuses(2, "/search", x_tenant="acme") == [200, 429]
    assert await service.statuses(2, "/", x_tenant="acme") == [200, 429]


@pytest.mark.parametrize(
    ("criticality", "status"),
    [
        ("sheddable", 503),
        ("sheddable_plus", 503),
        ("critical", 200),
        ("critical_plus", 200),
        ("made up", 200),
    ],
)
async def test_shed_level_two_drops_what_is_sheddable(criticality: str, status: int) -> None:
    service = Service(policy(shedding={"level": 2, "default_criticality": "critical"}))

    answered = await service.get(x_criticality=criticality)

    assert answered.status_code == status
    assert ("retry-after" in answered.headers) is (status == 503)
    assert service.rejected("shed", criticality="sheddable") == (criticality == "sheddable")


async def test_an_endpoint_counts_as_critical_as_its_policy_says_unless_the_caller_knows() -> None:
    shedding = {"level": 1, "default_criticality": "critical"}
    sheddable = {"GET /ads": endpoint(criticality="sheddable")}
    service = Service(policy(shedding=shedding, endpoints=sheddable))

    assert (await service.get("/ads")).status_code == 503
    assert (await service.get("/ads", x_criticality="critical")).status_code == 200


async def test_a_shed_request_takes_no_token() -> None:
    service = Service(policy(shedding={"level": 1, "default_criticality": "critical"}, rate=TIGHT))

    await service.statuses(5, x_criticality="sheddable")

    assert await service.statuses(3) == [200, 200, 429]


async def test_beyond_places_and_queue_a_request_gets_503_at_once() -> None:
    held = HeldApp()
    service = Service(policy(concurrency=concurrency(1, queue=1)), held)
    running = asyncio.create_task(service.get())
    await held.until_started(1)
    queued = asyncio.create_task(service.get())
    await until(lambda: service.waiting() == 1)

    refused = await service.get()
    held.release.set()

    assert refused.status_code == 503
    assert refused.json()["code"] == "queue-full"
    assert int(refused.headers["retry-after"]) >= 1
    assert [(await running).status_code, (await queued).status_code] == [200, 200]
    assert service.guard.lifecycle.inflight == 0


async def test_a_request_that_waits_too_long_in_the_queue_gets_503() -> None:
    held = HeldApp()
    service = Service(policy(concurrency=concurrency(1, queue=1, timeout_ms=1)), held)
    running = asyncio.create_task(service.get())
    await held.until_started(1)

    refused = await service.get()
    held.release.set()
    await running

    assert (refused.status_code, refused.json()["code"]) == (503, "queue-timeout")


async def test_a_full_endpoint_holds_no_place_of_the_service() -> None:
    held = HeldApp()
    slow = {"GET /slow": endpoint(concurrency=concurrency(1))}
    service = Service(policy(concurrency=concurrency(2), endpoints=slow), held)
    running = asyncio.create_task(service.get("/slow"))
    await held.until_started(1)

    assert (await service.get("/slow")).json()["code"] == "concurrency"
    other = asyncio.create_task(service.get("/fast"))
    await held.until_started(2)
    held.release.set()

    assert [(await running).status_code, (await other).status_code] == [200, 200]


async def test_shadow_counts_and_serves() -> None:
    shadow = {"per_s": 1, "burst": 1, "mode": "shadow"}
    service = Service(
        policy(rate=shadow, tenants={"default": shadow, "named": {}, "mode": "shadow"})
    )

    assert await service.statuses(3, x_tenant="acme") == [200, 200, 200]
    assert service.would_reject("rate") == 2
    assert service.would_reject("tenant_rate") == 2
    assert service.rejected("rate") == 0


async def test_shadow_concurrency_counts_and_serves() -> None:
    held = HeldApp()
    shadow = {**concurrency(1), "mode": "shadow"}
    service = Service(policy(concurrency=shadow), held)

    running = [asyncio.create_task(service.get()) for _ in range(3)]
    await held.until_started(3)
    held.release.set()
    answered = await asyncio.gather(*running)

    assert [answer.status_code for answer in answered] == [200, 200, 200]
    assert service.would_reject("concurrency") == 2

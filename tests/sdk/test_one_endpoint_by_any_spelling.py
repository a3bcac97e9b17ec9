"""HEAD is protected as GET, and every spelling of a path reaches the endpoint that it means."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.sdk.inbound import HeldApp, Service, concurrency, endpoint, plain_app, policy
from tests.sdk.test_wsgi_middleware import Service as WsgiService
from tidegate.asgi import Message, Receive, Scope, Send
from tidegate.routes import RouteTable
from tidegate.wsgi import Environ

ONCE = {"per_s": 1e-6, "burst": 1}  # another one comes after days

SPELLINGS = [
    "/orders",
    "//orders",
    "///orders//",
    "/orders/",
    "/./orders",
    "/orders/.",
    "/a/../orders",
    "/../orders",
    "/a/./b/../../orders/",
    "/orders/x/..",
]


def asked(path: str, method: str = "GET", **headers: str) -> Scope:
    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "headers": named}


async def status_of(service: Service, scope: Scope) -> int:
    """Call without a client in between, which would tidy the path up."""
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await service.app(scope, None, send)  # type: ignore[arg-type]  # nothing is received
    return statuses[0]


def wsgi_status_of(service: WsgiService, path: str, method: str = "GET") -> int:
    statuses: list[str] = []
    environ: Environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
    body = service.app(environ, lambda status, headers, *error: statuses.append(status))  # type: ignore[arg-type]
    list(body)
    return int(statuses[0][:3])


def counted(service: Any, route: str, status: int, method: str = "GET") -> int:
    guard = service.app.guard
    return sum(guard.metrics.server_duration.child(route, method, str(status)).counts)


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_other_spellings_of_a_path_share_its_limit_and_label(spelling: str) -> None:
    service = Service(policy(endpoints={"GET /orders": endpoint(rate=ONCE)}))

    assert await status_of(service, asked("/orders")) == 200
    assert await status_of(service, asked(spelling)) == 429
    assert counted(service, "/orders", 429) == 1


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_they_do_so_in_threads(spelling: str) -> None:
    service = WsgiService(policy(endpoints={"GET /orders": endpoint(rate=ONCE)}))

    assert wsgi_status_of(service, "/orders") == 200
    assert wsgi_status_of(service, spelling) == 429
    assert counted(service, "/orders", 429) == 1


@pytest.mark.parametrize("spelling", ["/%6frders", "/%6Frders", "/a/%2e%2e/orders", "/orders%2F"])
async def test_percent_encoded_letters_are_the_letters(spelling: str) -> None:
    service = Service(policy(endpoints={"GET /orders": endpoint(rate=ONCE)}))
    await service.get("/orders")

    assert (await service.get(spelling)).status_code == 429


@pytest.mark.parametrize("spelling", ["/%6frders", "/%6Frders", "/a/%2e%2e/orders", "/orders%2F"])
def test_percent_encoded_letters_are_the_letters_in_threads(spelling: str) -> None:
    service = WsgiService(policy(endpoints={"GET /orders": endpoint(rate=ONCE)}))
    service.get("/orders")

    assert service.get(spelling).status_code == 429


@pytest.mark.parametrize("text", ["a%0Ab", "%0A", "%0D%0A", "%00", "%C2%85", "%E2%80%A8", "%20"])
@pytest.mark.parametrize("route", ["/products/{id}", "/products/{rest:path}"])
async def test_a_parameter_may_hold_any_character(route: str, text: str) -> None:
    service = Service(policy(endpoints={f"GET {route}": endpoint(rate=ONCE)}))
    threads = WsgiService(policy(endpoints={f"GET {route}": endpoint(rate=ONCE)}))

    for one in (service, threads):
        answers = [one.get(f"/products/{text}") for _ in range(2)]
        answered = [each if hasattr(each, "status_code") else await each for each in answers]
        assert [answer.status_code for answer in answered] == [200, 429]


async def test_the_application_sees_the_path_as_it_was_sent() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["path"])
        await plain_app(scope, receive, send)

    service = Service(policy(endpoints={"GET /orders": endpoint()}), app)
    for spelling in SPELLINGS:
        await status_of(service, asked(spelling))

    assert seen == SPELLINGS


async def test_a_path_that_climbs_is_not_the_parameter_that_it_climbs_out_of() -> None:
    service = Service(
        policy(
            endpoints={
                "GET /files/{rest:path}": endpoint(),
                "GET /orders": endpoint(rate={"per_s": 0, "burst": 0}),
            }
        )
    )

    assert await status_of(service, asked("/files/../orders")) == 429


async def test_a_route_written_with_a_slash_is_the_endpoint_without() -> None:
    service = Service(
        policy(endpoints={"GET /orders/{id}": endpoint(rate=ONCE)}),
        routes=["GET /orders/{number}/"],  # as Django writes it
    )

    statuses = [await status_of(service, asked(path)) for path in ("/orders/1/", "/orders/2")]

    assert statuses == [200, 429]


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", "/orders", "GET /orders"),
        ("GET", "/orders/", "GET /orders/"),
        ("GET", "/carts/", "GET /carts"),
        ("GET", "/lists", "GET /lists/"),
        ("GET", "/lists/7", "GET /lists/{id}/"),
        ("GET", "/lists/7/", "GET /lists/{id}/"),
        ("GET", "", "GET /"),
        ("GET", "//", "GET /"),
        ("GET", "/..", "GET /"),
        ("GET", "/.orders", None),
        ("GET", "/ca%66é", None),  # it was decoded once already: this percent sign is one
        ("GET", "/café", "GET /caf%C3%A9"),
        ("GET", "/odd{one", "GET /odd{one"),
        ("HEAD", "/orders", "HEAD /orders"),
        ("HEAD", "/carts", "GET /carts"),
        ("HEAD", "/lists/7", "HEAD /lists/{number}"),
        ("HEAD", "/lists/featured", "GET /lists/featured"),
        ("POST", "/carts", None),
    ],
)
def test_the_key_of_a_path(method: str, path: str, key: str | None) -> None:
    keys = [
        "GET /", "GET /orders", "GET /orders/", "GET /carts", "GET /lists/", "GET /lists/{id}/",
        "GET /lists/featured", "GET /caf%C3%A9", "GET /odd{one", "HEAD /orders",
        "HEAD /lists/{number}",
    ]  # fmt: skip

    assert RouteTable(keys).find(method, path) == key
    assert RouteTable(reversed(keys)).find(method, path) == key


@pytest.mark.parametrize("path", ["/orders", "/orders/17"])
async def test_head_shares_the_rate_of_get_and_is_counted_as_head(path: str) -> None:
    limited = endpoint(rate=ONCE)
    service = Service(policy(endpoints={"GET /orders": limited, "GET /orders/{id}": limited}))

    assert await status_of(service, asked(path)) == 200
    assert await status_of(service, asked(path, "HEAD")) == 429

    route = path.replace("17", "{id}")
    assert (counted(service, route, 200), counted(service, route, 429, "HEAD")) == (1, 1)
    assert service.rejected("rate", route) == 1


def test_head_shares_the_rate_of_get_in_threads() -> None:
    service = WsgiService(policy(endpoints={"GET /orders": endpoint(rate=ONCE)}))

    assert [wsgi_status_of(service, "/orders", how) for how in ("HEAD", "GET")] == [200, 429]
    assert counted(service, "/orders", 200, "HEAD") == 1


async def test_head_shares_the_places_of_get() -> None:
    held = HeldApp()
    service = Service(policy(endpoints={"GET /orders": endpoint(concurrency=concurrency(1))}), held)
    running = asyncio.create_task(status_of(service, asked("/orders")))
    await held.until_started(1)

    assert await status_of(service, asked("/orders", "HEAD")) == 503

    held.release.set()
    assert await running == 200
    assert await status_of(service, asked("/orders", "HEAD")) == 200


async def test_head_has_the_criticality_and_the_deadline_of_get() -> None:
    own = endpoint(criticality="sheddable", deadline_ms=7)
    shedding = {"level": 1, "default_criticality": "critical"}
    service = Service(policy(endpoints={"GET /orders": own}, shedding=shedding))

    assert await status_of(service, asked("/orders", "HEAD")) == 503
    assert service.guard.endpoint_of("HEAD", "/orders").deadline_ms == 7


async def test_head_with_a_policy_of_its_own_obeys_that() -> None:
    service = Service(
        policy(
            endpoints={
                "GET /orders": endpoint(rate={"per_s": 0, "burst": 0}),
                "HEAD /orders": endpoint(),
            }
        )
    )

    assert await status_of(service, asked("/orders", "HEAD")) == 200
    assert await status_of(service, asked("/orders")) == 429


async def test_a_route_for_head_that_only_names_it_obeys_the_policy_of_get() -> None:
    service = Service(
        policy(endpoints={"GET /orders": endpoint(rate={"per_s": 0, "burst": 0})}),
        routes=["HEAD /orders"],
    )

    assert await status_of(service, asked("/orders", "HEAD")) == 429


async def test_head_follows_get_to_another_policy_and_back_to_the_services() -> None:
    service = Service(policy(endpoints={"GET /orders": endpoint()}))
    assert await status_of(service, asked("/orders", "HEAD")) == 200

    service.guard.retune(policy(endpoints={"GET /orders": endpoint(rate={"per_s": 0, "burst": 0})}))
    assert await status_of(service, asked("/orders", "HEAD")) == 429

    service.guard.retune(policy())
    assert await status_of(service, asked("/orders", "HEAD")) == 200


def test_a_refused_head_is_answered_without_a_body_in_threads() -> None:
    service = WsgiService(policy(rate={"per_s": 0, "burst": 0}), serve_health=True)

    refused = service.http.head("/orders")
    health = service.http.head("/livez")

    assert (refused.status_code, refused.content) == (429, b"")
    assert int(refused.headers["content-length"]) > 0
    assert (health.status_code, health.content) == (200, b"")

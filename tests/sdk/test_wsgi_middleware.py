"""The inbound half in threads, through wsgiref and through Django."""

from __future__ import annotations

import json
import threading
import wsgiref.simple_server
import wsgiref.validate
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any

import httpx
import pytest
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseNotFound
from django.urls import path

from tests.sdk.inbound import FakeClock, concurrency, endpoint, policy
from tests.waiting import HUNG_S, wait_until
from tidegate import FixedPolicy, Policy, TidegateWsgiMiddleware, current_request
from tidegate.wsgi import Environ, StartResponse, WsgiApp


def plain_app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served"]


class HeldApp:
    """A handler that keeps every request until it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.started = threading.Semaphore(0)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        self.started.release()
        assert self.release.wait(HUNG_S)
        return plain_app(environ, start_response)


class Service:
    """A guarded app, called in this thread, and what it counted."""

    def __init__(self, inbound: Policy, app: WsgiApp = plain_app, **options: Any) -> None:
        self.clock = FakeClock()
        self.source = FixedPolicy(inbound)
        self.app = TidegateWsgiMiddleware(app, self.source, clock=self.clock, **options)
        # The validator makes every breach of PEP 3333 an error, on both sides.
        self.http = httpx.Client(
            transport=httpx.WSGITransport(app=wsgiref.validate.validator(self.app)),
            base_url="http://service",
        )

    def get(self, path: str = "/", **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.get(path, headers=names)

    def rejected(self, reason: str) -> float:
        return self.source.metrics.rejected.child(reason, "other", "critical").value

    def answered(self, status: int, route: str = "other", method: str = "GET") -> int:
        series = self.source.metrics.server_duration.child(route, method, str(status))
        return sum(series.counts)

    @property
    def inflight(self) -> int:
        return self.app.guard.lifecycle.inflight


def test_a_request_within_every_limit_is_served_and_named() -> None:
    service = Service(policy())

    answer = service.get(X_Request_ID="req-7")

    assert (answer.status_code, answer.content) == (200, b"served")
    assert answer.headers["x-request-id"] == "req-7"
    assert (service.answered(200), service.inflight) == (1, 0)


def test_the_handler_knows_its_request_also_while_the_body_is_made() -> None:
    seen: list[tuple[str, str]] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        request = current_request()
        assert request is not None
        seen.append((request.request_id, request.tenant))
        yield b"x"

    Service(policy(), app).get(X_Request_ID="req-7", X_Tenant="acme")

    assert seen == [("req-7", "acme")]
    assert current_request() is None


def test_beyond_its_rate_it_answers_429_with_the_time_to_come_back() -> None:
    service = Service(policy(rate={"per_s": 0.5, "burst": 1}))
    service.get()

    refused = service.get(X_Request_ID="req-8")

    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "2"
    assert refused.json()["code"] == "rate"
    assert refused.headers["x-request-id"] == refused.json()["request_id"] == "req-8"
    assert (service.rejected("rate"), service.answered(429), service.inflight) == (1, 1, 0)


def test_a_tenant_beyond_its_rate_is_refused_and_the_others_are_not() -> None:
    limits = {"default": {"per_s": 0.1, "burst": 1}, "named": {}}
    service = Service(policy(tenants=limits))
    service.get(X_Tenant="acme")

    assert service.get(X_Tenant="acme").status_code == 429
    assert service.get(X_Tenant="zenith").status_code == 200


def test_what_is_sheddable_is_shed_at_its_level() -> None:
    service = Service(policy(shedding={"level": 1, "default_criticality": "critical"}))

    assert service.get(X_Criticality="sheddable").status_code == 503
    assert service.get(X_Criticality="critical").status_code == 200


def test_a_request_whose_deadline_has_passed_is_not_begun() -> None:
    service = Service(policy())

    assert service.get(X_Request_Deadline_Ms="0").status_code == 504


def test_a_new_policy_is_obeyed_at_once() -> None:
    service = Service(policy())
    assert service.get().status_code == 200

    service.source.change(policy(rate={"per_s": 0, "burst": 0}))

    assert service.get().status_code == 429


def test_routes_of_the_policy_have_their_own_limits_and_label() -> None:
    rate = {"per_s": 0.1, "burst": 1}
    service = Service(policy(endpoints={"GET /orders/{id}": endpoint(rate=rate)}))

    assert [service.get(f"/orders/{number}").status_code for number in (1, 2)] == [200, 429]
    assert service.get("/elsewhere").status_code == 200
    assert service.answered(200, "/orders/{id}") == 1


@contextmanager
def held(service: Service, app: HeldApp, count: int) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(count + 2) as threads:
        waiting = [threads.submit(service.get) for _ in range(count)]
        try:
            for _ in range(count):
                assert app.started.acquire(timeout=HUNG_S)
            yield threads
        finally:
            app.release.set()
        assert [future.result(HUNG_S).status_code for future in waiting] == [200] * count


def test_beyond_its_concurrency_it_answers_503() -> None:
    app = HeldApp()
    service = Service(policy(concurrency=concurrency(2)), app)

    with held(service, app, 2):
        assert service.get().json()["code"] == "concurrency"

    assert (service.rejected("concurrency"), service.inflight) == (1, 0)
    assert service.get().status_code == 200


def test_who_waits_gets_the_place_of_who_leaves() -> None:
    app = HeldApp()
    service = Service(policy(concurrency=concurrency(1, queue=1)), app)

    with held(service, app, 1) as threads:
        second = threads.submit(service.get)
        wait_until(lambda: service.app.guard.metrics.text().count(b"tidegate_queue_depth 1.0") == 1)
        assert service.get().json()["code"] == "queue-full"
        app.release.set()
        assert second.result(HUNG_S).status_code == 200

    assert service.inflight == 0


def test_who_waits_too_long_is_refused_and_leaves_no_trace() -> None:
    app = HeldApp()
    service = Service(policy(concurrency=concurrency(1, queue=1, timeout_ms=20)), app)

    with held(service, app, 1):
        assert service.get().json()["code"] == "queue-timeout"
        assert service.get().json()["code"] == "queue-timeout"

    assert service.get().status_code == 200


def test_a_shadow_limit_counts_and_lets_through() -> None:
    app = HeldApp()
    service = Service(policy(concurrency=concurrency(1) | {"mode": "shadow"}), app)

    with held(service, app, 3):
        pass

    counted = service.source.metrics.would_reject.child("concurrency", "other", "critical")
    assert counted.value == 2
    assert service.inflight == 0


def test_places_survive_a_storm_of_threads() -> None:
    service = Service(policy(concurrency=concurrency(3, queue=100)))

    with ThreadPoolExecutor(16) as threads:
        statuses = list(threads.map(lambda number: service.get().status_code, range(500)))

    assert statuses == [200] * 500
    assert service.answered(200) == 500
    assert service.inflight == 0
    (limits,) = service.app.guard.endpoint_of("GET", "/").layers
    assert limits.gate is not None
    assert (limits.gate.inside, limits.gate.waiting) == (0, 0)


class Failing:
    """Fails where it is told to, and knows whether it was closed."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.is_closed = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if self.place == "call":
            raise RuntimeError("broken")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self

    def __iter__(self) -> Iterator[bytes]:
        yield b"one"
        if self.place == "body":
            raise RuntimeError("broken")

    def close(self) -> None:
        self.is_closed = True
        if self.place == "close":
            raise RuntimeError("broken")


@pytest.mark.parametrize("place", ["call", "body", "close"])
def test_a_handler_that_fails_gives_its_place_back(place: str) -> None:
    app = Failing(place)
    service = Service(policy(concurrency=concurrency(1)), app)

    for _ in range(3):
        with pytest.raises(RuntimeError, match="broken"):
            service.get()

    assert service.inflight == 0
    assert app.is_closed == (place != "call")
    assert service.answered(500 if place == "call" else 200) == 3
    assert current_request() is None


def test_a_body_that_nobody_reads_to_its_end_gives_its_place_back() -> None:
    app = Failing("nowhere")
    service = Service(policy(concurrency=concurrency(1)), app)
    environ: Environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}

    body = service.app(environ, lambda status, headers, *error: lambda data: None)
    assert service.inflight == 1
    body.close()  # type: ignore[attr-defined]  # as every WSGI server does
    body.close()  # type: ignore[attr-defined]

    assert (service.inflight, app.is_closed) == (0, True)


def test_health_and_metrics_are_outside_every_limit() -> None:
    service = Service(policy(rate={"per_s": 0, "burst": 0}), serve_health=True)

    assert [service.get(path).status_code for path in ("/livez", "/readyz")] == [200, 200]
    assert "tidegate_ready 1.0" in service.get("/metrics").text
    service.app.guard.lifecycle.set_ready(False)
    assert service.get("/readyz").status_code == 503


def test_a_scrape_keeps_no_request_waiting() -> None:
    service = Service(policy(), serve_health=True)
    served: list[int] = []

    def serve_meanwhile() -> float:
        """In the middle of the scrape a request comes, by another thread."""
        with ThreadPoolExecutor(1) as threads:
            served.append(threads.submit(service.get).result(HUNG_S).status_code)
        return 1.0

    service.source.metrics.ready.child().read_with(serve_meanwhile)

    assert "tidegate_ready 1.0" in service.get("/metrics").text
    assert served == [200]


def test_draining_refuses_newcomers_and_waits_for_those_inside() -> None:
    app = HeldApp()
    service = Service(policy(), app)
    waits_s: list[float] = []

    with held(service, app, 1) as threads:
        drained = threads.submit(lambda: service.app.drain(sleep=waits_s.append))
        wait_until(lambda: service.app.guard.lifecycle.is_draining)
        refused = service.get()
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert not drained.done()
        app.release.set()
        assert drained.result(HUNG_S)

    assert waits_s == [5]


def test_an_empty_instance_drains_at_once() -> None:
    assert Service(policy()).app.drain(sleep=lambda seconds: None)


TWO_IN_ALL = {"per_s": 1e-6, "burst": 2}  # another one comes after days


class ThreadingWsgiServer(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


class QuietHandler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *values: object) -> None:
        """Say nothing."""


@contextmanager
def serving(app: WsgiApp) -> Iterator[str]:
    server = wsgiref.simple_server.make_server(
        "127.0.0.1", 0, app, ThreadingWsgiServer, QuietHandler
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(HUNG_S)
        server.server_close()


def test_through_a_real_wsgi_server() -> None:
    source = FixedPolicy(policy(rate=TWO_IN_ALL))

    with serving(TidegateWsgiMiddleware(plain_app, source)) as url:
        answers = [
            httpx.get(url, headers={"X-Request-ID": "req-1"}, timeout=HUNG_S) for _ in range(3)
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert {answer.headers["x-request-id"] for answer in answers} == {"req-1"}
    assert json.loads(answers[2].content)["request_id"] == "req-1"


def test_paths_are_matched_in_the_characters_they_mean() -> None:
    source = FixedPolicy(policy(endpoints={"GET /größe": endpoint(rate={"per_s": 0, "burst": 0})}))

    with serving(TidegateWsgiMiddleware(plain_app, source)) as url:
        assert httpx.get(f"{url}/größe", timeout=HUNG_S).status_code == 429


def no_product(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponseNotFound()


urlpatterns = [path("products/<int:number>/", no_product)]


def test_through_django(settings: Any) -> None:
    settings.ROOT_URLCONF, settings.MIDDLEWARE = __name__, []
    source = FixedPolicy(policy(rate=TWO_IN_ALL))
    application = TidegateWsgiMiddleware(
        get_wsgi_application(), source, routes=["GET /products/{number}/"]
    )

    with serving(application) as url:
        answers = [httpx.get(f"{url}/products/{n}/", timeout=HUNG_S) for n in range(3)]

    assert [answer.status_code for answer in answers] == [404, 404, 429]
    series = source.metrics.server_duration.child("/products/{number}/", "GET", "404")
    assert sum(series.counts) == 2

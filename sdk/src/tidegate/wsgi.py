"""WSGI middleware that makes a service in threads obey the `inbound` half of its policy.

The decisions and the order of the checks are those of the ASGI middleware, taken under a lock.
What threads cannot do: a handler that runs past its deadline is not cancelled. Its deadline bounds
the wait for a place and every call it makes through `sync_http_client`, until the first byte of its
body. A request is over when its body is: what the body does when it is closed is not part of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from tidegate.clock import Clock, monotonic_s
from tidegate.context import (
    CRITICALITY_HEADER,
    DEADLINE_HEADER,
    REQUEST_ID_HEADER,
    TENANT_HEADER,
    RequestContext,
    current_request,
    enter_request,
    leave_request,
)
from tidegate.dependency import PolicySource
from tidegate.forks import renew_in_children
from tidegate.guard import Endpoint, Guard
from tidegate.health import HEALTH_PATHS, health_of
from tidegate.inbound_request import read_request
from tidegate.lifecycle import ThreadLifecycle
from tidegate.limiter import ConcurrencyGate
from tidegate.metrics import Metrics
from tidegate.policy import Policy
from tidegate.refusals import Refusal

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]

_PHRASES = {200: "OK", 429: "Too Many Requests", 503: "Service Unavailable", 504: "Gateway Timeout"}


class TidegateWsgiMiddleware:
    """Protects `app` by the policy of `source`, retuned in place whenever that changes.

    Args:
        source: a `SyncPolicyClient` or a `FixedPolicy`.
        tenant_header: names the tenant; requests without it pass no tenant limit. Let it be set
            by something you trust.
        criticality_header: overrides the endpoint's criticality when it spells one.
        metrics: where to count; by default where `source` does.
        routes: endpoint keys (`GET /products/{id}`) to know besides those of the policy.
        serve_health: answer `/livez`, `/readyz` and `/metrics` here, outside every limit.
    """

    def __init__(
        self,
        app: WsgiApp,
        source: PolicySource,
        *,
        tenant_header: str = TENANT_HEADER,
        criticality_header: str = CRITICALITY_HEADER,
        metrics: Metrics | None = None,
        routes: Iterable[str] = (),
        serve_health: bool = False,
        clock: Clock = monotonic_s,
    ) -> None:
        self.app = app
        self._lock = threading.Lock()
        self._lifecycle = ThreadLifecycle(self._lock)
        self.guard = Guard(
            source.policy,
            metrics=metrics or source.metrics,
            routes=routes,
            clock=clock,
            lifecycle=self._lifecycle,
        )
        self._serve_health = serve_health
        self._tenant_key = _environ_key(tenant_header)
        self._criticality_key = _environ_key(criticality_header)
        source.subscribe(self._retune)
        renew_in_children(self)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        path = _path_of(environ)
        if self._serve_health and path in HEALTH_PATHS:
            # Without the lock: a scrape copies what it reads, and no request may wait for it.
            status, headers, body = health_of(path, self.guard.metrics, self._lifecycle)
            start_response(_status_line(status), _texts(headers, len(body)))
            return _sent(body, environ["REQUEST_METHOD"])
        visit = self._enter(environ, path)
        try:
            refusal = visit.refusal or self._enter_gates(visit)
            if refusal is not None:
                return self._refuse(visit, refusal, start_response)
            return _Answer(self, visit, self._run(visit, environ, start_response))
        except BaseException:
            self.leave(visit)
            raise

    def drain(self, *, sleep: Callable[[float], object] = time.sleep) -> bool:
        """Leave as `lifecycle.drain` of the policy says; returns whether all work was done.

        Call it from a thread of its own, or from the hook your server has for it: it blocks.
        """
        return self._lifecycle.drain_in_thread(self.guard.policy.lifecycle.drain, sleep=sleep)

    def leave(self, visit: Visit) -> None:
        """Give back what a request held and count it; a second call does nothing."""
        with self._lock:
            if visit.is_over:
                return
            visit.is_over = True
            visit.request.deadline_at_s = None  # what the application still does has none
            guard, endpoint = self.guard, visit.endpoint
            for gate in visit.entered:
                gate.leave()
            self._lifecycle.left()
            duration = endpoint.duration_of(visit.status or 500)
            duration.observe(guard.clock() - visit.started_s)
            if visit.request.tenant:
                guard.count_tenant(visit.request.tenant, visit.refusal)

    def renew_after_fork(self) -> None:
        """Begin anew in a forked child, where only the thread that forked may have a request."""
        self._lock = threading.Lock()
        self._lifecycle.renew(self._lock, inflight=0 if current_request() is None else 1)
        self.guard.forget_requests()

    def _retune(self, policy: Policy) -> None:
        with self._lock:
            self.guard.retune(policy)

    def _enter(self, environ: Environ, path: str) -> Visit:
        guard = self.guard
        with self._lock:
            started_s = guard.clock()
            endpoint = guard.endpoint_of(environ["REQUEST_METHOD"], path)
            request = read_request(
                endpoint,
                started_s,
                request_id=_bytes(environ.get(_ID_KEY)),
                deadline=_bytes(environ.get(_DEADLINE_KEY)),
                criticality=_bytes(environ.get(self._criticality_key)),
                tenant=_bytes(environ.get(self._tenant_key)) or b"",
            )
            if request.criticality not in endpoint.prepared:
                endpoint.prepare(request.criticality)
            self._lifecycle.inflight += 1
            visit = Visit(endpoint, request, started_s)
            visit.refusal = guard.refuse(endpoint, request, started_s)
        return visit

    def _enter_gates(self, visit: Visit) -> Refusal | None:
        has_waited = False
        for gate in visit.endpoint.gates:
            with self._lock:
                is_inside = gate.enter_now()
                if not is_inside and not gate.enforced:
                    self.guard.enter_shadow_gate(gate, visit.endpoint, visit.request)
                    is_inside = True
                if is_inside:
                    visit.entered.append(gate)
            if not is_inside:
                refusal = self._wait_for(gate, visit)
                if refusal is not None:
                    return refusal
                has_waited = True
        if not has_waited:
            with self._lock:
                self.guard.queue_wait.observe(0.0)
        return None

    def _wait_for(self, gate: ConcurrencyGate, visit: Visit) -> Refusal | None:
        """Wait for a place without the lock, in which others are given theirs."""
        place: Future[bool] = Future()
        started_s = self.guard.clock()
        left_s = (visit.request.deadline_at_s or started_s) - started_s
        with self._lock:
            reason = gate.queue_up(place)
            patience_s = gate.patience_s(left_s)
        if reason:
            return Refusal(reason)
        try:
            place.result(timeout=max(0.0, patience_s))
        except TimeoutError:
            pass  # it may have been given all the same, before we took the lock
        finally:
            with self._lock:
                gate.withdraw(place)
                if place.done():
                    visit.entered.append(gate)
                    self.guard.queue_wait.observe(self.guard.clock() - started_s)
        return None if place.done() else Refusal(gate.lateness(left_s))

    def _run(
        self, visit: Visit, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            visit.status = int(status[:3])
            named = [*headers, (REQUEST_ID_HEADER, visit.request.request_id)]
            return start_response(status, named, *error)

        with visit:
            return self.app(environ, start)

    def _refuse(
        self, visit: Visit, refusal: Refusal, start_response: StartResponse
    ) -> Iterable[bytes]:
        visit.refusal, visit.status = refusal, refusal.status
        with self._lock:
            self.guard.count_refusal(refusal.reason, visit.endpoint, visit.request)
        body = refusal.body(visit.request.request_id)
        # A WSGI application may not speak of the connection, which is the server's.
        headers = [header for header in refusal.headers() if header[0] != b"connection"]
        named = (REQUEST_ID_HEADER, visit.request.request_id)
        self.leave(visit)
        start_response(_status_line(refusal.status), [*_texts(headers, len(body)), named])
        return _sent(body, visit.endpoint.method)


class Visit:
    """One request on its way through, and what it holds; entered, it is the current request."""

    __slots__ = (
        "_token", "endpoint", "entered", "is_over", "refusal", "request", "started_s", "status",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, request: RequestContext, started_s: float) -> None:
        self.endpoint = endpoint
        self.request = request
        self.started_s = started_s
        self.entered: list[ConcurrencyGate] = []
        self.refusal: Refusal | None = None
        self.status = 0  # until the response starts
        self.is_over = False

    def __enter__(self) -> None:
        self._token = enter_request(self.request)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leave_request(self._token)


class _Answer:
    """The body of an answer: while it is made the request goes on, at its end it is over."""

    def __init__(
        self, middleware: TidegateWsgiMiddleware, visit: Visit, body: Iterable[bytes]
    ) -> None:
        self._middleware = middleware
        self._visit = visit
        self._body = body
        self._chunks = iter(body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            with self._visit:
                chunk = next(self._chunks)
        except BaseException:
            self._middleware.leave(self._visit)
            raise
        if chunk:
            self._visit.request.deadline_at_s = None  # it runs to the first byte
        return chunk

    def close(self) -> None:
        """End the request, read or not, and then let the body do what it has for its end."""
        self._middleware.leave(self._visit)
        close = getattr(self._body, "close", None)
        if close is not None:
            with self._visit:
                close()


def _environ_key(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


_ID_KEY = _environ_key(REQUEST_ID_HEADER)
_DEADLINE_KEY = _environ_key(DEADLINE_HEADER)


def _path_of(environ: Environ) -> str:
    """The whole path, mount point included, in the characters it means (PEP 3333 has bytes)."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1", "replace").decode("utf-8", "replace") or "/"


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1", "replace")


def _status_line(status: int) -> str:
    return f"{status} {_PHRASES[status]}"


def _sent(body: bytes, method: str) -> list[bytes]:
    """The body as it is sent: not to a HEAD, of which many a WSGI server takes no notice."""
    return [] if method == "HEAD" else [body]


def _texts(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[str, str]]:
    texts = [(name.decode().title(), value.decode()) for name, value in headers]
    return [*texts, ("Content-Length", str(length))]

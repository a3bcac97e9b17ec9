"""ASGI middleware that makes a service obey the `inbound` half of its policy.

Order of the checks, cheapest first: draining, deadline, shed level, rate by tenant, endpoint and
service, then a place to run. What is refused costs no handler; what runs is cancelled at its
deadline. Every refusal is problem+json with `Retry-After`, and every response has a request ID.

A request is over with the last message of its response: what the handler does after it, such as
Starlette's background tasks, has no deadline, is not timed and holds no place. The deadline of a
response in parts runs to its first byte; until its last one it is in flight and holds its place.
"""

import asyncio
from collections.abc import Awaitable, Iterable

from tidegate.asgi import AsgiApp, Message, Receive, Scope, Send, answer
from tidegate.clock import Clock, monotonic_s
from tidegate.context import (
    CRITICALITY_HEADER,
    TENANT_HEADER,
    RequestContext,
    enter_request,
    leave_request,
)
from tidegate.deadline import Deadline
from tidegate.dependency import PolicySource
from tidegate.guard import Endpoint, Guard
from tidegate.health import HEALTH_PATHS, answer_health
from tidegate.inbound_request import DEADLINE, ID_HEADER, read_request
from tidegate.metrics import Metrics
from tidegate.refusals import Refusal
from tidegate.routes import OTHER_ROUTE

CLIENT_CLOSED_REQUEST = 499

_BODY = "http.response.body"
_BODIES = frozenset((_BODY, "http.response.pathsend", "http.response.zerocopysend"))


class TidegateMiddleware:
    """Protects `app` by the policy of `source`, retuned in place whenever that changes.

    Args:
        source: a `PolicyClient`, a `FixedPolicy`, or a `Guard` made by the caller, which then
            brings its own metrics, routes and clock.
        tenant_header: names the tenant; requests without it pass no tenant limit. Let it be set
            by something you trust.
        criticality_header: overrides the endpoint's criticality when it spells one.
        metrics: where to count; by default where `source` does.
        routes: endpoint keys (`GET /products/{id}`) to know besides those of the policy.
        serve_health: answer `/livez`, `/readyz` and `/metrics` here, outside every limit.
    """

    def __init__(
        self,
        app: AsgiApp,
        source: PolicySource | Guard,
        *,
        tenant_header: str = TENANT_HEADER,
        criticality_header: str = CRITICALITY_HEADER,
        metrics: Metrics | None = None,
        routes: Iterable[str] = (),
        serve_health: bool = False,
        clock: Clock = monotonic_s,
    ) -> None:
        self.app = app
        self.guard = _guard_of(source, metrics, routes, clock)
        self._serve_health = serve_health
        self._tenant_header = tenant_header.lower().encode()
        self._criticality_header = criticality_header.lower().encode()
        self._wanted = frozenset(
            (self._tenant_header, self._criticality_header, ID_HEADER, DEADLINE)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; what is not HTTP passes through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif self._serve_health and scope["path"] in HEALTH_PATHS:
            guard = self.guard
            await answer_health(scope["path"], guard.metrics, guard.lifecycle, send)
        else:
            await self._serve(scope, receive, send)

    async def drain(self) -> bool:
        """Leave as `lifecycle.drain` of the policy says; returns whether all work was done."""
        return await self.guard.lifecycle.drain(self.guard.policy.lifecycle.drain)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        guard = self.guard
        started_s = guard.clock()
        endpoint = guard.endpoint_of(scope["method"], scope["path"])
        request = self._read(scope, endpoint, started_s)
        if request.criticality not in endpoint.prepared:
            endpoint.prepare(request.criticality)
        exchange = _Exchange(guard, scope, send, endpoint, request, started_s)
        guard.lifecycle.inflight += 1
        token = enter_request(request)
        try:
            refusal = guard.refuse(endpoint, request, started_s)
            if refusal is None:
                refusal = await self._run(scope, receive, exchange)
            if refusal is not None:
                await exchange.refuse(refusal)
        except asyncio.CancelledError:
            exchange.status = exchange.status or CLIENT_CLOSED_REQUEST
            raise
        finally:
            leave_request(token)
            exchange.finish()

    async def _run(self, scope: Scope, receive: Receive, exchange: "_Exchange") -> Refusal | None:
        guard, request = self.guard, exchange.request
        now_s = exchange.started_s
        has_waited = False
        try:
            for gate in exchange.gates:
                if not gate.enter_now():
                    refusal = await guard.enter_gate(gate, exchange.endpoint, request)
                    if refusal is not None:
                        return refusal
                    has_waited = gate.enforced
                    now_s = guard.clock()
                exchange.entered += 1
            if not has_waited:
                guard.queue_wait.observe(0.0)
            with Deadline((request.deadline_at_s or now_s) - now_s) as deadline:
                exchange.deadline = deadline
                await self.app(scope, receive, exchange.forward)
            return Refusal("deadline") if deadline.passed else None
        finally:
            if exchange.entered:
                exchange.leave_gates()

    def _read(self, scope: Scope, endpoint: Endpoint, now_s: float) -> RequestContext:
        wanted = self._wanted
        found = {name: value for name, value in scope["headers"] if name in wanted}
        return read_request(
            endpoint,
            now_s,
            request_id=found.get(ID_HEADER),
            deadline=found.get(DEADLINE),
            criticality=found.get(self._criticality_header),
            tenant=found.get(self._tenant_header, b""),
        )


class _Exchange:
    """One request and its response on the way out, which gains the request's ID.

    It is over when the response is, or when nothing more will come of it.
    """

    __slots__ = (
        "_guard", "_has_trailers", "_is_begun", "_is_over", "_refusal", "_scope", "_send",
        "deadline", "endpoint", "entered", "gates", "request", "started_s", "status",
    )  # fmt: skip

    def __init__(
        self,
        guard: Guard,
        scope: Scope,
        send: Send,
        endpoint: Endpoint,
        request: RequestContext,
        started_s: float,
    ) -> None:
        self._guard = guard
        self._scope = scope
        self._send = send
        self.endpoint = endpoint
        self.request = request
        self.started_s = started_s
        self.gates = endpoint.gates  # a new policy may replace the tuple; we leave what we entered
        self.entered = 0
        self.deadline: Deadline | None = None
        self.status = 0  # until the response starts
        self._refusal: Refusal | None = None
        self._has_trailers = self._is_begun = self._is_over = False

    def forward(self, message: Message) -> Awaitable[None]:
        """Pass a message of the handler on; not a coroutine itself, to save a frame."""
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
            self._has_trailers = message.get("trailers", False)
            named = (ID_HEADER, self.request.request_id.encode())
            message["headers"] = [*message.get("headers", ()), named]
        elif not (self._is_begun and message.get("more_body")):
            return self._forward_and_look(message)
        return self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer a refusal; a response already begun stays cut off, which the caller sees."""
        self._refusal = refusal
        self._guard.count_refusal(refusal.reason, self.endpoint, self.request)
        if not self.status:
            body = refusal.body(self.request.request_id)
            await answer(self.forward, refusal.status, refusal.headers(), body)

    def leave_gates(self) -> None:
        """Give the places back; a second call does nothing."""
        gates, entered, self.entered = self.gates, self.entered, 0
        for gate in gates if entered == len(gates) else gates[:entered]:
            gate.leave()

    def finish(self) -> None:
        """Give back what the request held, and count it; a second call does nothing."""
        if self._is_over:
            return
        self._is_over = True
        guard, endpoint = self._guard, self.endpoint
        if self.entered:
            self.leave_gates()
        guard.lifecycle.left()
        status = self.status or 500
        if endpoint.route == OTHER_ROUTE:
            endpoint = self._matched()
        found = endpoint.durations.get(status) or endpoint.duration_of(status)
        found.observe(guard.clock() - self.started_s)
        if self.request.tenant:
            guard.count_tenant(self.request.tenant, self._refusal)

    async def _forward_and_look(self, message: Message) -> None:
        """Pass on a message that the response may begin or end with."""
        await self._send(message)
        deadline = self.deadline
        if deadline is not None and deadline.passed:
            return  # too late to count as an answer
        if message["type"] == _BODY and not self._has_trailers:  # nearly always
            is_last = not message.get("more_body")
            if not is_last and not message.get("body"):
                return
        else:
            is_last = self._is_last(message)
            if not is_last and not _has_bytes(message):
                return
        self._is_begun = True
        self.request.deadline_at_s = None  # nor do calls have one that are made from now on
        if deadline is not None:
            deadline.lift()
        if is_last:
            self.finish()

    def _is_last(self, message: Message) -> bool:
        kind = message["type"]
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return kind in _BODIES and not self._has_trailers and not message.get("more_body", False)

    def _matched(self) -> Endpoint:
        """The endpoint of the template that matched, which frameworks leave in the scope."""
        template = getattr(self._scope.get("route"), "path", None)
        if not isinstance(template, str):
            return self.endpoint
        return self._guard.unmatched(self._scope["method"], template)


def _has_bytes(message: Message) -> bool:
    kind = message["type"]
    return bool(message.get("body")) if kind == _BODY else kind in _BODIES


def _guard_of(
    source: PolicySource | Guard, metrics: Metrics | None, routes: Iterable[str], clock: Clock
) -> Guard:
    if isinstance(source, Guard):
        return source
    guard = Guard(source.policy, metrics=metrics or source.metrics, routes=routes, clock=clock)
    source.subscribe(guard.retune)
    return guard

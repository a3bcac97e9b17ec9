"""ASGI middleware that makes a service obey the `inbound` half of its policy.

Order of the checks, cheapest first: draining, deadline, shed level, rate by tenant, endpoint and
service, then a place to run. What is refused costs no handler; what runs is cancelled at its
deadline. Every refusal is problem+json with `Retry-After`, and every response has a request ID.
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
from tidegate.limiter import ConcurrencyGate
from tidegate.metrics import Metrics
from tidegate.refusals import Refusal
from tidegate.routes import OTHER_ROUTE

CLIENT_CLOSED_REQUEST = 499


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
        exchange = _Exchange(send, request.request_id)
        lifecycle = guard.lifecycle
        lifecycle.inflight += 1
        token = enter_request(request)
        refusal = None
        try:
            refusal = guard.refuse(endpoint, request, started_s)
            if refusal is None:
                refusal = await self._run(scope, receive, exchange, endpoint, request, started_s)
            if refusal is not None:
                guard.count_refusal(refusal.reason, endpoint, request)
                await exchange.refuse(refusal)
        except asyncio.CancelledError:
            exchange.status = exchange.status or CLIENT_CLOSED_REQUEST
            raise
        finally:
            leave_request(token)
            lifecycle.left()
            self._record(scope, endpoint, exchange.status or 500, guard.clock() - started_s)
            if request.tenant:
                guard.count_tenant(request.tenant, refusal)

    async def _run(
        self,
        scope: Scope,
        receive: Receive,
        exchange: "_Exchange",
        endpoint: Endpoint,
        request: RequestContext,
        now_s: float,
    ) -> Refusal | None:
        guard = self.guard
        gates = endpoint.gates  # a new policy may replace the tuple; we leave by what we entered
        entered = 0
        has_waited = False
        try:
            for gate in gates:
                if not gate.enter_now():
                    refusal = await guard.enter_gate(gate, endpoint, request)
                    if refusal is not None:
                        return refusal
                    has_waited = gate.enforced
                    now_s = guard.clock()
                entered += 1
            if not has_waited:
                guard.queue_wait.observe(0.0)
            with Deadline((request.deadline_at_s or now_s) - now_s) as deadline:
                await self.app(scope, receive, exchange.forward)
            return Refusal("deadline") if deadline.passed else None
        finally:
            _leave(gates, entered)

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

    def _record(self, scope: Scope, endpoint: Endpoint, status: int, duration_s: float) -> None:
        if endpoint.route == OTHER_ROUTE:
            # Frameworks that route by templates leave the one that matched in the scope.
            template = getattr(scope.get("route"), "path", None)
            if isinstance(template, str):
                endpoint = self.guard.unmatched(scope["method"], template)
        found = endpoint.durations.get(status) or endpoint.duration_of(status)
        found.observe(duration_s)


class _Exchange:
    """One response on its way out: gains its request ID, and is watched for its status."""

    __slots__ = ("_id", "_send", "status")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._id = request_id
        self.status = 0  # until the response starts

    def forward(self, message: Message) -> Awaitable[None]:
        """Pass a message of the handler on; not a coroutine itself, to save a frame."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (ID_HEADER, self._id.encode())]
        return self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer a refusal; a response already begun stays cut off, which the caller sees."""
        if not self.status:
            await answer(self.forward, refusal.status, refusal.headers(), refusal.body(self._id))


def _guard_of(
    source: PolicySource | Guard, metrics: Metrics | None, routes: Iterable[str], clock: Clock
) -> Guard:
    if isinstance(source, Guard):
        return source
    guard = Guard(source.policy, metrics=metrics or source.metrics, routes=routes, clock=clock)
    source.subscribe(guard.retune)
    return guard


def _leave(gates: tuple[ConcurrencyGate, ...], entered: int) -> None:
    for gate in gates[:entered]:
        gate.leave()

"""The decisions on an inbound request: shed, rate, concurrency; counted, and retuned in place."""

from collections.abc import Iterable, Iterator

from tidegate.clock import Clock, monotonic_s
from tidegate.context import RequestContext
from tidegate.lifecycle import Lifecycle
from tidegate.limiter import ConcurrencyGate, TenantBuckets, TokenBucket
from tidegate.metrics import Metrics
from tidegate.policy import (
    ConcurrencyPolicy,
    Criticality,
    Mode,
    Policy,
    RatePolicy,
    TenantsPolicy,
)
from tidegate.refusals import REASONS, SHADOW_REASONS, Refusal
from tidegate.routes import METHODS, OTHER_METHOD, OTHER_ROUTE, RouteTable, shape_of, split_key
from tidegate.series import Distribution
from tidegate.shedding import SHED_FROM_LEVEL
from tidegate.tenants import TenantTally

MAX_ENDPOINTS = 500

_FIRST_STATUSES = (200, 429, 500, 503, 504)


class Limits:
    """The buckets and the gate of one service or endpoint, kept across policies."""

    __slots__ = ("gate", "rate", "rate_enforced", "tenants")

    def __init__(self) -> None:
        self.rate: TokenBucket | None = None
        self.rate_enforced = True
        self.tenants: TenantBuckets | None = None
        self.gate: ConcurrencyGate | None = None

    def retune(
        self,
        rate: RatePolicy | None,
        tenants: TenantsPolicy | None,
        concurrency: ConcurrencyPolicy | None,
        now_s: float,
    ) -> None:
        """Adopt other limits; None lifts one. Tokens and requests in flight stay known."""
        if rate is None:
            self.rate = None
        else:
            self.rate_enforced = rate.mode is Mode.ENFORCE
            if self.rate is None:
                self.rate = TokenBucket(rate, now_s)
            else:
                self.rate.retune(rate, now_s)
        if tenants is None:
            self.tenants = None
        elif self.tenants is None:
            self.tenants = TenantBuckets(tenants, now_s)
        else:
            self.tenants.retune(tenants, now_s)
        if concurrency is None:
            self.gate = None
        elif self.gate is None:
            self.gate = ConcurrencyGate(concurrency)
        else:
            self.gate.retune(concurrency)

    def forget_requests(self) -> None:
        """Have another gate made by the next policy, with nobody inside."""
        if self.gate is not None:
            self.gate.abandon()
            self.gate = None


class Endpoint:
    """One endpoint as the hot path needs it: what limits it, and where it is counted.

    `layers` are the limits that apply, the endpoint's own before the service's; both tuples are
    replaced whole by a new policy, so a request keeps those it entered by.
    """

    __slots__ = (
        "_metrics",
        "criticality",
        "deadline_ms",
        "durations",
        "gates",
        "layers",
        "limits",
        "method",
        "prepared",
        "route",
    )

    def __init__(self, method: str, route: str, metrics: Metrics) -> None:
        self._metrics = metrics
        self.method = method
        self.route = route
        self.limits = Limits()
        self.layers: tuple[Limits, ...] = ()
        self.gates: tuple[ConcurrencyGate, ...] = ()
        self.deadline_ms = 0.0
        self.criticality = Criticality.CRITICAL
        self.durations: dict[int, Distribution] = {}
        self.prepared: set[Criticality] = set()

    def follow(self, leader: "Endpoint", now_s: float) -> None:
        """Obey another endpoint's policy, and share its limits: they are one endpoint."""
        self.limits.retune(None, None, None, now_s)
        self.deadline_ms = leader.deadline_ms
        self.criticality = leader.criticality
        self.layers = leader.layers

    def prepare(self, criticality: Criticality) -> None:
        """Make the series that the first failures will count in, so that none is lost.

        `increase()` needs a zero to start from. Done at once for the endpoint's own
        criticality, for others when the first such request comes; the second time does nothing.
        """
        self.prepared.add(criticality)
        for reason in REASONS:
            self._metrics.rejected.child(reason, self.route, criticality.value)
        for reason in SHADOW_REASONS:
            self._metrics.would_reject.child(reason, self.route, criticality.value)
        if self.route != OTHER_ROUTE:
            for status in _FIRST_STATUSES:
                self.duration_of(status)

    def duration_of(self, status: int) -> Distribution:
        """Return the latency histogram of one status."""
        found = self.durations.get(status)
        if found is None:
            child = self._metrics.server_duration.child
            found = self.durations[status] = child(self.route, self.method, str(status))
        return found


class Guard:
    """Protects one process by one policy at a time.

    Args:
        policy: in force until the first `retune`.
        routes: endpoint keys to know besides the policy's, so that they get their own label.
        top_tenants: how many tenants are counted by name besides those the policy names.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        metrics: Metrics | None = None,
        routes: Iterable[str] = (),
        clock: Clock = monotonic_s,
        top_tenants: int = 20,
        lifecycle: Lifecycle | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.clock = clock
        self.lifecycle = lifecycle or Lifecycle()
        self.tenants = TenantTally(self.metrics.tenant_requests, top_tenants)
        self.queue_wait = self.metrics.queue_wait.child()
        self._service = Limits()
        self._endpoints: dict[str, Endpoint] = {}
        self._routes = tuple(routes)
        self._table = RouteTable(())
        self.policy = policy
        self.retune(policy)
        self._watch()

    def retune(self, policy: Policy) -> None:
        """Obey another policy from the next decision on; nothing counted so far is forgotten."""
        now_s = self.clock()
        inbound = policy.inbound
        self.policy = policy
        self._shed_level = inbound.shedding.level
        self._service.retune(inbound.rate, inbound.tenants, inbound.concurrency, now_s)
        for key in (*self._routes, *inbound.endpoints):
            self._known(key)
        self._keys = {_identity_of(key): key for key in sorted(inbound.endpoints, reverse=True)}
        # First those with a policy of their own, which others follow.
        for key in sorted(self._endpoints, key=lambda key: key not in inbound.endpoints):
            self._retune_endpoint(key, now_s)
        self._table = RouteTable(self._endpoints)
        self.tenants.pin(_tenant_names(policy))

    def forget_requests(self) -> None:
        """Forget who is inside and who waits, in a forked child: they go on in the parent."""
        for limits in (self._service, *(known.limits for known in self._endpoints.values())):
            limits.forget_requests()
        self.retune(self.policy)

    def endpoint_of(self, method: str, path: str) -> Endpoint:
        """Return the endpoint that serves this path; unknown ones share one per method."""
        key = self._table.find(method, path)
        if key is None:
            return self.unmatched(method, OTHER_ROUTE)
        found = self._endpoints[key]
        # A HEAD that obeys the policy of GET is counted by itself.
        if method == "HEAD" and found.method != method:
            return self._made(f"{method} {found.route}")
        return found

    def unmatched(self, method: str, route: str) -> Endpoint:
        """Return the endpoint of a route that no table holds, as a framework names it."""
        method = method if method in METHODS else OTHER_METHOD
        found = self._endpoints.get(f"{method} {route}")
        if found is None:
            if len(self._endpoints) >= MAX_ENDPOINTS:
                route = OTHER_ROUTE
            found = self._made(f"{method} {route}")
        return found

    def refuse(self, endpoint: Endpoint, request: RequestContext, now_s: float) -> Refusal | None:
        """Decide all that can be decided at once; None means the request may go on."""
        if self.lifecycle.is_draining:
            return Refusal("draining")
        if request.deadline_at_s is not None and request.deadline_at_s <= now_s:
            return Refusal("deadline")
        if self._shed_level >= SHED_FROM_LEVEL[request.criticality]:
            return Refusal("shed", 2.0)
        return self._refuse_by_rate(endpoint, request, now_s)

    async def enter_gate(
        self, gate: ConcurrencyGate, endpoint: Endpoint, request: RequestContext
    ) -> Refusal | None:
        """Take a place behind a gate that had none free; None means it was found."""
        if not gate.enforced:
            self.enter_shadow_gate(gate, endpoint, request)
            return None
        started_s = self.clock()
        reason = await gate.wait((request.deadline_at_s or started_s) - started_s)
        if reason:
            return Refusal(reason)
        self.queue_wait.observe(self.clock() - started_s)
        return None

    def enter_shadow_gate(
        self, gate: ConcurrencyGate, endpoint: Endpoint, request: RequestContext
    ) -> None:
        """Pass a full gate that only watches, and count what it would have done."""
        reason = gate.enter_anyway()
        if reason:
            self._count_shadow(reason, endpoint, request)

    def count_refusal(self, reason: str, endpoint: Endpoint, request: RequestContext) -> None:
        """Count one request that was refused."""
        self.metrics.rejected.child(reason, endpoint.route, request.criticality.value).add()

    def count_tenant(self, tenant: str, refusal: Refusal | None) -> None:
        """Count one request of a tenant."""
        series = self.tenants.series_of(tenant)
        if refusal is None:
            series.accepted.value += 1.0
        elif refusal.reason == "tenant_rate":
            series.limited.value += 1.0
        else:
            series.rejected.value += 1.0

    def _refuse_by_rate(
        self, endpoint: Endpoint, request: RequestContext, now_s: float
    ) -> Refusal | None:
        taken: list[TokenBucket] = []
        refusal = None
        if request.tenant:
            refusal = self._refuse_by_tenant(endpoint, request, taken, now_s)
        return refusal or self._refuse_by_total(endpoint, request, taken, now_s)

    def _refuse_by_tenant(
        self, endpoint: Endpoint, request: RequestContext, taken: list[TokenBucket], now_s: float
    ) -> Refusal | None:
        for layer in endpoint.layers:
            tenants = layer.tenants
            bucket = None if tenants is None else tenants.bucket_of(request.tenant, now_s)
            if tenants is None or bucket is None:
                continue
            if bucket.take(now_s):
                taken.append(bucket)
            elif tenants.enforced:
                return _refused(bucket, "tenant_rate", taken, now_s)
            else:
                self._count_shadow("tenant_rate", endpoint, request)
        return None

    def _refuse_by_total(
        self, endpoint: Endpoint, request: RequestContext, taken: list[TokenBucket], now_s: float
    ) -> Refusal | None:
        for layer in endpoint.layers:
            rate = layer.rate
            if rate is None:
                continue
            if rate.take(now_s):
                taken.append(rate)
            elif layer.rate_enforced:
                return _refused(rate, "rate", taken, now_s)
            else:
                self._count_shadow("rate", endpoint, request)
        return None

    def _count_shadow(self, reason: str, endpoint: Endpoint, request: RequestContext) -> None:
        self.metrics.would_reject.child(reason, endpoint.route, request.criticality.value).add()

    def _known(self, key: str) -> Endpoint:
        found = self._endpoints.get(key)
        if found is None:
            found = self._endpoints[key] = Endpoint(*split_key(key), self.metrics)
        return found

    def _made(self, key: str) -> Endpoint:
        found = self._endpoints.get(key)
        if found is None:
            found = self._known(key)
            self._retune_endpoint(key, self.clock())
        return found

    def _retune_endpoint(self, key: str, now_s: float) -> None:
        inbound, endpoint = self.policy.inbound, self._endpoints[key]
        own = inbound.endpoints.get(key)
        leader = None if own is not None else self._leader_of(endpoint)
        if leader is not None:
            endpoint.follow(leader, now_s)
        elif own is None:
            endpoint.limits.retune(None, None, None, now_s)
            endpoint.deadline_ms = inbound.deadline_ms
            endpoint.criticality = inbound.shedding.default_criticality
            endpoint.layers = (self._service,)
        else:
            endpoint.limits.retune(own.rate, own.tenants, own.concurrency, now_s)
            endpoint.deadline_ms = own.deadline_ms
            endpoint.criticality = own.criticality
            endpoint.layers = (endpoint.limits, self._service)
        endpoint.prepare(endpoint.criticality)
        endpoint.gates = tuple(layer.gate for layer in endpoint.layers if layer.gate is not None)

    def _leader_of(self, endpoint: Endpoint) -> Endpoint | None:
        """The endpoint whose policy is also that of one without: the same spelled another way."""
        shape = shape_of(endpoint.route)
        key = self._keys.get((endpoint.method, shape))
        if key is None and endpoint.method == "HEAD":
            key = self._keys.get(("GET", shape))
        return None if key is None else self._endpoints[key]

    def _watch(self) -> None:
        self.metrics.inflight.child().read_with(lambda: self.lifecycle.inflight)
        self.metrics.queue_depth.child().read_with(lambda: sum(self._waiting()))
        self.metrics.ready.child().read_with(lambda: self.lifecycle.is_ready)

    def _waiting(self) -> Iterator[int]:
        known = self._endpoints.copy().values()  # a scrape may come from any thread
        for limits in (self._service, *(endpoint.limits for endpoint in known)):
            gate = limits.gate
            if gate is not None:
                yield gate.waiting


def _refused(bucket: TokenBucket, reason: str, taken: list[TokenBucket], now_s: float) -> Refusal:
    # A request that one limit refused must not use up what the others allow.
    for other in taken:
        other.put_back()
    return Refusal(reason, bucket.wait_s(now_s))


def _identity_of(key: str) -> tuple[str, str]:
    method, route = split_key(key)
    return method, shape_of(route)


def _tenant_names(policy: Policy) -> set[str]:
    inbound = policy.inbound
    names = set(inbound.tenants.named)
    for endpoint in inbound.endpoints.values():
        if endpoint.tenants is not None:
            names.update(endpoint.tenants.named)
    return names

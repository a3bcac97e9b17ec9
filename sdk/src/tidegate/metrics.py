"""Every metric this package exports, by its public name.

One `Metrics` per process, shared by the middleware and the outbound transport. Label values are
bounded: routes are templates, dependencies are named in code, and tenants are the largest by
name with the rest as `other`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tidegate.asgi import AsgiApp, Headers, Receive, Scope, Send, answer
from tidegate.series import CONTENT_TYPE, AnyFamily, Family, counter, gauge, histogram, text_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

METRICS_HEADERS: Headers = [
    (b"content-type", CONTENT_TYPE.encode()),
    (b"cache-control", b"no-store"),
]
CONFIG_TRANSPORTS = ("stream", "long_poll", "poll")
BREAKER_STATES = ("closed", "open", "half_open", "forced_open", "disabled")


class Metrics:
    """The families of one process.

    Args:
        registry: a prometheus-client registry that should show these metrics too; without one,
            `text()` shows them alone and prometheus-client need not be installed.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry
        self._inbound()
        self._outbound()
        self._instance()
        if registry is not None:
            registry.register(_RegistryView(self))

    def _inbound(self) -> None:
        route = ("http_route", "http_request_method", "http_response_status_code")
        why = ("reason", "http_route", "criticality")
        self.server_duration = histogram(
            "http_server_request_duration_seconds", "Time to answer a request.", *route
        )
        self.rejected = counter("tidegate_rejected_total", "Requests refused, and why.", *why)
        self.would_reject = counter(
            "tidegate_would_reject_total", "Requests a shadow limit would have refused.", *why
        )
        self.tenant_requests = counter(
            "tidegate_tenant_requests_total", "Requests by tenant.", "tenant", "outcome"
        )
        self.inflight = gauge("tidegate_inflight", "Requests being handled.")
        self.queue_depth = gauge("tidegate_queue_depth", "Requests waiting for a slot.")
        self.queue_wait = histogram(
            "tidegate_queue_wait_seconds", "Time an admitted request waited for its slot."
        )
        self.idempotency = counter(
            "tidegate_idempotency_total", "Requests with an idempotency key.", "result"
        )

    def _outbound(self) -> None:
        what = ("dependency", "outcome")
        self.client_requests = counter(
            "tidegate_client_requests_total", "Calls to a dependency, retries not counted.", *what
        )
        self.client_attempts = counter(
            "tidegate_client_attempts_total", "Attempts at calls, retries included.", *what
        )
        self.client_attempt_duration = histogram(
            "tidegate_client_attempt_duration_seconds", "Time one attempt took.", "dependency"
        )
        self.retry_budget_exhausted = counter(
            "tidegate_client_retry_budget_exhausted_total",
            "Retries not made because the budget was spent.",
            "dependency",
        )
        self.breaker_state = gauge(
            "tidegate_breaker_state", "1 for the state a breaker is in.", "dependency", "state"
        )
        self.breaker_calls = counter(
            "tidegate_breaker_calls_total", "Calls as the breaker saw them.", *what
        )

    def _instance(self) -> None:
        self.config_sequence = gauge("tidegate_config_sequence", "Publication in force.")
        self.config_age = gauge(
            "tidegate_config_age_seconds", "Time since the policy was last confirmed."
        )
        self.config_transport = gauge(
            "tidegate_config_transport", "1 for the way policies come at present.", "transport"
        )
        self.config_signature_failures = counter(
            "tidegate_config_signature_failures_total",
            "Deliveries refused because no trusted key signed them.",
        )
        self.ready = gauge("tidegate_ready", "1 while this instance wants traffic.")

    def watch_config(
        self, sequence: Callable[[], float | None], age_s: Callable[[], float | None]
    ) -> None:
        """Read the policy's sequence and age from these functions at each scrape."""
        self.config_sequence.child().read_with(sequence)
        self.config_age.child().read_with(age_s)

    def watch_transport(self, transport: Callable[[], str]) -> None:
        """Read how policies come from this function at each scrape."""

        def is_in_use(name: str) -> Callable[[], float]:
            return lambda: float(transport() == name)

        for name in CONFIG_TRANSPORTS:
            self.config_transport.child(name).read_with(is_in_use(name))

    def set_breaker_state(self, dependency: str, state: str) -> None:
        """Show `state` as 1 and every other state of that dependency's breaker as 0."""
        for name in BREAKER_STATES:
            self.breaker_state.child(dependency, name).set(1.0 if name == state else 0.0)

    def families(self) -> Iterator[AnyFamily]:
        """Yield every family."""
        for value in vars(self).values():
            if isinstance(value, Family):
                yield value

    def text(self) -> bytes:
        """Return the Prometheus text exposition: the registry's when there is one."""
        if self.registry is None:
            return text_of(self.families())
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


def metrics_asgi_app(metrics: Metrics) -> AsgiApp:
    """Return an ASGI app that answers every request with the metrics, to mount at `/metrics`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer_metrics(metrics, send)

    return app


async def answer_metrics(metrics: Metrics, send: Send) -> None:
    """Answer one scrape."""
    await answer(send, 200, METRICS_HEADERS, metrics.text())


class _RegistryView:
    """Our families, as a collector of a prometheus-client registry."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        from prometheus_client import Metric

        for family in self._metrics.families():
            name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
            metric = Metric(name, family.about, family.kind)
            for sample_name, labels, value in family.samples():
                metric.add_sample(sample_name, dict(labels), value)
            yield metric

"""Envoy's clusters as far as Tidegate speaks them, strictly."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from controlplane.delivery.adapters.xds_schema import (
    Count,
    Duration,
    Message,
    Percent,
    Positive,
    Text,
    TypedMessage,
    WholePercent,
    seconds_of,
)


class RetryBudget(Message):
    """The most that retries may add to the requests in flight."""

    budget_percent: Percent
    min_retry_concurrency: Count


class Threshold(Message):
    """The circuit breaker of one priority."""

    priority: Literal["DEFAULT"] = "DEFAULT"
    max_connections: Positive | None = None
    max_pending_requests: Positive | None = None
    max_requests: Positive | None = None
    retry_budget: RetryBudget | None = None


class CircuitBreakers(Message):
    """Thresholds by priority."""

    thresholds: tuple[Threshold]


class OutlierDetection(Message):
    """When a host is passed over for a while."""

    interval: Duration
    base_ejection_time: Duration
    max_ejection_time: Duration
    max_ejection_percent: WholePercent
    consecutive_5xx: Positive
    enforcing_consecutive_5xx: WholePercent
    enforcing_success_rate: WholePercent
    enforcing_failure_percentage: WholePercent
    failure_percentage_threshold: WholePercent
    failure_percentage_request_volume: Positive
    failure_percentage_minimum_hosts: Positive

    @model_validator(mode="after")
    def _has_times(self) -> OutlierDetection:
        base_s, max_s = seconds_of(self.base_ejection_time), seconds_of(self.max_ejection_time)
        if seconds_of(self.interval) <= 0 or not 0 < base_s <= max_s:
            raise ValueError("interval and ejection times are above 0, base at most max")
        return self


class SocketAddress(Message):
    """Host name or IP address, and port."""

    address: Text
    port_value: Annotated[int, Field(ge=1, le=65_535)]


class Address(Message):
    """An address of the one kind that is served."""

    socket_address: SocketAddress


class Endpoint(Message):
    """One host."""

    address: Address


class LocalityEndpoint(Message):
    """One host, wrapped as Envoy wants it."""

    endpoint: Endpoint


class LocalityEndpoints(Message):
    """The hosts of one locality."""

    lb_endpoints: Annotated[tuple[LocalityEndpoint, ...], Field(min_length=1)]


class LoadAssignment(Message):
    """The hosts of a cluster."""

    cluster_name: Text
    endpoints: tuple[LocalityEndpoints]


class CommonLb(Message):
    """Load balancing: whether ejected hosts are used after all when too many are ejected."""

    healthy_panic_threshold: Percent


class Cluster(TypedMessage):
    """One resource of `:clusters`: plain HTTP/1.1 to named hosts."""

    type_url: ClassVar[str] = "type.googleapis.com/envoy.config.cluster.v3.Cluster"

    name: Text
    type: Literal["STRICT_DNS"] = "STRICT_DNS"
    dns_lookup_family: Literal["V4_PREFERRED"] = "V4_PREFERRED"
    connect_timeout: Duration
    circuit_breakers: CircuitBreakers
    outlier_detection: OutlierDetection | None = None
    common_lb_config: CommonLb
    load_assignment: LoadAssignment

"""A policy as clusters: those whose hosts a node names, with how they are called."""

from __future__ import annotations

from controlplane.delivery.adapters.xds_breaker import outlier_detection
from controlplane.delivery.adapters.xds_cluster_schema import (
    Address,
    CircuitBreakers,
    Cluster,
    CommonLb,
    Endpoint,
    LoadAssignment,
    LocalityEndpoint,
    LocalityEndpoints,
    RetryBudget,
    SocketAddress,
    Threshold,
)
from controlplane.delivery.adapters.xds_node import EnvoyNode, ManagedCluster
from controlplane.delivery.adapters.xds_runtime import calls_to, concurrency_limits
from controlplane.delivery.adapters.xds_schema import Percent
from controlplane.delivery.adapters.xds_units import milliseconds, percent_of, retries_at_once
from controlplane.policies.domain.outbound import CallPolicy
from controlplane.policies.domain.schema import PolicyDocument


def clusters(document: PolicyDocument, node: EnvoyNode) -> list[Cluster]:
    """Return the clusters of a node for a complete policy, by name; none when it names none.

    Raises:
        ValueError: something that Envoy should not be sent; a mistake of the mapping.
    """
    return [_cluster(document, node, managed) for managed in node.clusters]


def _cluster(document: PolicyDocument, node: EnvoyNode, managed: ManagedCluster) -> Cluster:
    is_inbound = managed.name == node.inbound_cluster
    calls = calls_to(document.outbound, managed.name)
    is_called = not is_inbound or node.calls_a_dependency
    threshold = _threshold(document, calls if is_called else None, is_inbound)
    return Cluster(
        name=managed.name,
        connect_timeout=milliseconds(calls.timeouts.connect_ms),
        circuit_breakers=CircuitBreakers(thresholds=(threshold,)),
        outlier_detection=outlier_detection(calls.breaker) if is_called else None,
        # A breaker stops calls even when every host is bad; Envoy's panic mode would not.
        common_lb_config=CommonLb(healthy_panic_threshold=Percent(value=0.0)),
        load_assignment=_hosts(managed),
    )


def _threshold(document: PolicyDocument, calls: CallPolicy | None, is_inbound: bool) -> Threshold:
    most, waiting = concurrency_limits(document.inbound) if is_inbound else (None, None)
    return Threshold(
        max_connections=most,
        max_requests=most,
        max_pending_requests=waiting,
        retry_budget=None if calls is None else _retry_budget(calls),
    )


def _retry_budget(calls: CallPolicy) -> RetryBudget:
    budget = calls.retry.budget
    return RetryBudget(
        budget_percent=Percent(value=percent_of(budget.ratio)),
        min_retry_concurrency=retries_at_once(budget.min_per_s, calls.timeouts.attempt_ms),
    )


def _hosts(managed: ManagedCluster) -> LoadAssignment:
    hosts = tuple(
        LocalityEndpoint(
            endpoint=Endpoint(
                address=Address(socket_address=SocketAddress(address=host, port_value=port))
            )
        )
        for host, port in managed.hosts
    )
    return LoadAssignment(
        cluster_name=managed.name, endpoints=(LocalityEndpoints(lb_endpoints=hosts),)
    )

"""A policy as route configurations: what Envoy takes by route discovery.

`<environment>/<service>` is for the listener that takes requests to the service: deadlines,
rates, tenants, and the criticality of endpoints. `<environment>/<service>/outbound` is for the
listener through which the service calls others, one virtual host per dependency.
"""

from __future__ import annotations

import re

from controlplane.delivery.adapters.xds_limits import (
    ENDPOINT_RATE_FILTER,
    RATE_FILTER,
    SHED_FILTER,
    TENANTS_FILTER,
    endpoint_rate,
    service_rate,
    shedding,
    tenant_rates,
)
from controlplane.delivery.adapters.xds_node import EnvoyNode
from controlplane.delivery.adapters.xds_retries import retry_policy
from controlplane.delivery.adapters.xds_route_schema import (
    FilterConfigs,
    HeaderMatch,
    Regex,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    StringMatch,
    VirtualHost,
)
from controlplane.delivery.adapters.xds_runtime import called_clusters, calls_to
from controlplane.delivery.adapters.xds_units import milliseconds
from controlplane.policies.domain.inbound import Endpoint
from controlplane.policies.domain.outbound import CallPolicy
from controlplane.policies.domain.schema import PolicyDocument

OTHER = "other"

_PARAMETER = re.compile(r"\{([^{}]*)\}")


def inbound_routes(document: PolicyDocument, node: EnvoyNode, name: str) -> RouteConfiguration:
    """Return the routes of requests to the service, for a complete policy.

    Raises:
        ValueError: something that Envoy should not be sent; a mistake of the mapping.
    """
    inbound = document.inbound
    calls = calls_to(document.outbound, node.inbound_cluster) if node.calls_a_dependency else None
    endpoints = {key: each for key, each in inbound.endpoints.items() if each is not None}
    routes = [
        Route(
            name=key,
            match=_match(key),
            route=_action(node.inbound_cluster, endpoints[key].deadline_ms, calls),
            typed_per_filter_config=_endpoint_filters(endpoints[key]),
        )
        for key in sorted(endpoints, key=_looseness)
    ]
    rest = Route(
        name=OTHER,
        match=RouteMatch(prefix="/"),
        route=_action(node.inbound_cluster, inbound.deadline_ms, calls),
    )
    filters: FilterConfigs = {
        SHED_FILTER: shedding(inbound.shedding.default_criticality),
        RATE_FILTER: service_rate(inbound.rate),
    }
    tenants = tenant_rates(inbound.tenants)
    if tenants is not None:
        filters[TENANTS_FILTER] = tenants
    every = VirtualHost(
        name="service", domains=("*",), routes=(*routes, rest), typed_per_filter_config=filters
    )
    return RouteConfiguration(name=name, virtual_hosts=(every,))


def outbound_routes(document: PolicyDocument, node: EnvoyNode, name: str) -> RouteConfiguration:
    """Return the routes of the service's calls: a virtual host per dependency, by its name.

    Raises:
        ValueError: something that Envoy should not be sent; a mistake of the mapping.
    """
    return RouteConfiguration(
        name=name,
        virtual_hosts=tuple(
            VirtualHost(
                name=cluster,
                domains=(cluster, f"{cluster}:*"),
                routes=(
                    Route(
                        name=cluster,
                        match=RouteMatch(prefix="/"),
                        route=_action(
                            cluster,
                            document.inbound.deadline_ms,
                            calls_to(document.outbound, cluster),
                        ),
                    ),
                ),
            )
            for cluster in called_clusters(document.outbound, node)
        ),
    )


def _action(cluster: str, deadline_ms: int, calls: CallPolicy | None) -> RouteAction:
    """Where a request goes. An attempt that is the only one is bounded by the route itself."""
    retries = None if calls is None else retry_policy(calls)
    if calls is not None and retries is None:
        deadline_ms = min(deadline_ms, calls.timeouts.attempt_ms)
    return RouteAction(cluster=cluster, timeout=milliseconds(deadline_ms), retry_policy=retries)


def _endpoint_filters(endpoint: Endpoint) -> FilterConfigs:
    filters: FilterConfigs = {SHED_FILTER: shedding(endpoint.criticality)}
    if endpoint.rate is not None:
        filters[ENDPOINT_RATE_FILTER] = endpoint_rate(endpoint.rate)
    return filters


def _match(key: str) -> RouteMatch:
    method, _, route = key.partition(" ")
    headers = (HeaderMatch(name=":method", string_match=StringMatch(exact=method)),)
    if "{" not in route:
        return RouteMatch(path=route, headers=headers)
    return RouteMatch(safe_regex=Regex(regex=_expression(route)), headers=headers)


def _expression(route: str) -> str:
    """`{id}` stands for one segment, `{rest:path}` for the remainder, as for the SDK."""
    parts = _PARAMETER.split(route)
    for index, part in enumerate(parts):
        if index % 2 == 0:
            parts[index] = re.escape(part)
        else:
            parts[index] = ".+" if part.endswith(":path") else "[^/]+"
    return "".join(parts)


def _looseness(key: str) -> tuple[int, int, str]:
    """Envoy takes the first route that matches: the more literal ones come first."""
    parameters = _PARAMETER.findall(key)
    return sum(each.endswith(":path") for each in parameters), len(parameters), key

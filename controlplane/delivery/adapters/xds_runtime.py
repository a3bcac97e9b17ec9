"""A policy as runtime keys: what Envoy takes live, within a poll."""

from __future__ import annotations

import math

from controlplane.delivery.adapters.xds_breaker import outlier_detection
from controlplane.delivery.adapters.xds_node import EnvoyNode
from controlplane.delivery.adapters.xds_schema import UNLIMITED, Runtime, seconds_of
from controlplane.delivery.adapters.xds_units import percent_of, retries_at_once
from controlplane.policies.domain.inbound import Inbound
from controlplane.policies.domain.outbound import Breaker, CallPolicy, Outbound
from controlplane.policies.domain.schema import PolicyDocument

Layer = dict[str, bool | int | float]

SHED_FROM_LEVEL = {"sheddable": 1, "sheddable_plus": 2, "critical": 3, "critical_plus": 4}
SHED_KEY = "tidegate.shed.{}"
ENABLED_KEY, ENFORCED_KEY = "local_ratelimit.enabled", "local_ratelimit.enforced"
# Envoy refuses regular expressions over 100 instructions; a long route template has more.
REGEX_INSTRUCTIONS = 20_000


def runtime(document: PolicyDocument, node: EnvoyNode, name: str) -> Runtime:
    """Return the layer `name` for a complete policy.

    Raises:
        ValueError: a key or a value that Envoy should not be sent; a mistake of the mapping.
    """
    layer: Layer = {
        **_shedding(document.inbound),
        ENABLED_KEY: 100,
        ENFORCED_KEY: 100 if document.inbound.rate.mode == "enforce" else 0,
        "re2.max_program_size.error_level": REGEX_INSTRUCTIONS,
        **_concurrency(document.inbound, node.inbound_cluster),
        **_shared_outlier_detection(document.outbound),
    }
    for cluster in called_clusters(document.outbound, node):
        layer |= _calls(calls_to(document.outbound, cluster), cluster)
    return Runtime(name=name, layer=layer)


def called_clusters(outbound: Outbound, node: EnvoyNode) -> list[str]:
    """Return the clusters that are dependencies, by name: of the policy, and of this node."""
    names = {name for name, calls in outbound.dependencies.items() if calls is not None}
    names |= {cluster.name for cluster in node.clusters}
    if node.calls_a_dependency:
        names.add(node.inbound_cluster)
    else:
        names.discard(node.inbound_cluster)
    return sorted(names)


def calls_to(outbound: Outbound, cluster: str) -> CallPolicy:
    """Return how a cluster is called: as the dependency of its name, or as every dependency."""
    return outbound.dependencies.get(cluster) or outbound.defaults


def _shedding(inbound: Inbound) -> Layer:
    shed = {
        criticality: 100 if inbound.shedding.level >= level else 0
        for criticality, level in SHED_FROM_LEVEL.items()
    }
    return {
        **{SHED_KEY.format(criticality): share for criticality, share in shed.items()},
        # What a plain fault filter reads: it knows no criticality, so every request is taken for
        # one that did not say.
        "fault.http.abort.abort_percent": shed[inbound.shedding.default_criticality],
        "fault.http.abort.http_status": 503,
    }


def _concurrency(inbound: Inbound, cluster: str) -> Layer:
    most, waiting = concurrency_limits(inbound)
    prefix = f"circuit_breakers.{cluster}.default."
    return {
        # HTTP/1.1 takes a connection for each request that runs, HTTP/2 does not: so both.
        prefix + "max_connections": most,
        prefix + "max_requests": most,
        prefix + "max_pending_requests": waiting,
    }


def concurrency_limits(inbound: Inbound) -> tuple[int, int]:
    """Return (requests at once, requests that wait) as Envoy should bound them.

    At least one may wait, because a request whose connection is being made counts as waiting.
    Envoy's circuit breakers have no shadow mode: in shadow they bound nothing and count nothing.
    """
    if inbound.concurrency.mode == "shadow":
        return UNLIMITED, UNLIMITED
    return inbound.concurrency.max, max(1, inbound.concurrency.queue.max)


def _calls(calls: CallPolicy, cluster: str) -> Layer:
    breaker, budget = calls.breaker, calls.retry.budget
    by_cluster = f"circuit_breakers.{cluster}.default.retry_budget."
    return {
        by_cluster + "budget_percent": percent_of(budget.ratio),
        by_cluster + "min_retry_concurrency": retries_at_once(
            budget.min_per_s, calls.timeouts.attempt_ms
        ),
        f"upstream.maintenance_mode.{cluster}": 100 if breaker.mode == "forced_open" else 0,
        f"admission_control.{cluster}.enabled": breaker.mode == "auto",
        f"admission_control.{cluster}.sr_threshold": max(
            1.0, round(100 - percent_of(breaker.failure_rate), 6)
        ),
        f"admission_control.{cluster}.rps_threshold": _judged_from_per_s(breaker),
    }


def _judged_from_per_s(breaker: Breaker) -> int:
    """Requests per second under which a breaker does not judge; a count window always does."""
    if breaker.window.kind == "count":
        return 0
    return math.ceil(breaker.min_calls / breaker.window.size)


def _shared_outlier_detection(outbound: Outbound) -> Layer:
    """The outlier detection of every cluster at once: sent only where all breakers agree.

    All that decides, also where a cluster leaves it at Envoy's defaults: those eject a tenth of the
    hosts at most, and some that are merely slower than others. These keys hold for every cluster of
    an Envoy and outrank what :clusters says of each, so one dependency with a breaker of its own
    leaves outlier detection to :clusters.
    """
    breakers = [calls.breaker for calls in outbound.dependencies.values() if calls is not None]
    found = {outlier_detection(breaker) for breaker in (outbound.defaults.breaker, *breakers)}
    if len(found) > 1:
        return {}
    (one,) = found
    prefix = "outlier_detection."
    return {
        prefix + "interval_ms": _ms(one.interval),
        prefix + "base_ejection_time_ms": _ms(one.base_ejection_time),
        prefix + "max_ejection_time_ms": _ms(one.max_ejection_time),
        prefix + "max_ejection_percent": one.max_ejection_percent,
        prefix + "consecutive_5xx": one.consecutive_5xx,
        prefix + "enforcing_consecutive_5xx": one.enforcing_consecutive_5xx,
        prefix + "enforcing_success_rate": one.enforcing_success_rate,
        prefix + "enforcing_failure_percentage": one.enforcing_failure_percentage,
        prefix + "failure_percentage_threshold": one.failure_percentage_threshold,
        prefix + "failure_percentage_request_volume": one.failure_percentage_request_volume,
        prefix + "failure_percentage_minimum_hosts": one.failure_percentage_minimum_hosts,
    }


def _ms(duration: str) -> int:
    return round(seconds_of(duration) * 1000)

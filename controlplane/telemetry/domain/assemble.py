"""Answers of one tick become figures per service. Pure: missing in, missing out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.telemetry.domain.dialects import native
from controlplane.telemetry.domain.dialects.native import Reading
from controlplane.telemetry.domain.picture import (
    DependencySignals,
    EndpointSignals,
    History,
    ServiceSignals,
    TenantSignals,
)
from controlplane.telemetry.domain.quantiles import fraction_within, quantile
from controlplane.telemetry.domain.series import ratio
from controlplane.telemetry.domain.tables import Answers, Buckets, Tables, group, merge_buckets

Edge = tuple[str, str]  # caller, dependency as the caller names it


@dataclass(frozen=True, slots=True)
class Histories:
    """Sparkline values per service, all on one grid."""

    rate: Mapping[str, History] = field(default_factory=dict)
    error: Mapping[str, History] = field(default_factory=dict)


_NO_FAILURES = native.GOOD_OUTCOMES | native.NEUTRAL_OUTCOMES | native.UNSENT_OUTCOMES


@dataclass(frozen=True, slots=True)
class _Calls:
    """Requests and attempts on one or more edges."""

    requests_per_s: float | None = None
    sent_per_s: float | None = None
    attempts_per_s: float | None = None
    failed_per_s: float | None = None
    failures_per_s: Mapping[str, float] = field(default_factory=dict)  # by outcome

    @property
    def per_request(self) -> float | None:
        """Attempts per request that was sent at all; None without both."""
        if self.attempts_per_s is None:
            return None
        return ratio(self.attempts_per_s, self.sent_per_s)


def assemble_services(
    answers: Answers,
    *,
    registered: Iterable[str] = (),
    targets: Mapping[Edge, str] | None = None,
    histories: Histories | None = None,
) -> dict[str, ServiceSignals]:
    """Return figures per service: all that are registered, and all that have series.

    Args:
        targets: the service behind each dependency; one that is not named there is taken to be
            the service of the same name.
    """
    tables = Tables(answers)
    past = histories or Histories()
    calls = {service: _calls(tables, service) for service in tables.services}
    received = _received(calls, targets or {})
    names = {name for name in registered if name} | tables.services
    return {
        name: _service(tables, name, calls.get(name, {}), received.get(name), past)
        for name in sorted(names)
    }


def _service(
    tables: Tables,
    service: str,
    calls: Mapping[str, _Calls],
    received: _Calls | None,
    past: Histories,
) -> ServiceSignals:
    requests = tables.requests.get(service)
    total = sum(requests.values()) if requests else None
    errors = sum(tables.errors.get(service, {}).values())
    rejected = tables.rejected.get(service, {})
    buckets = merge_buckets(tables.latency.get(service, {}))
    waited = quantile(0.95, merge_buckets(tables.queue_wait.get(service, {})))
    return ServiceSignals(
        rate_per_s=total,
        error_ratio=_if(tables.answered(Reading.ERRORS), ratio(errors, total)),
        p50=quantile(0.5, buckets),
        p95=quantile(0.95, buckets),
        p99=quantile(0.99, buckets),
        attempts_per_request=_merge(calls.values()).per_request,
        attempts_received_per_request=received.per_request if received else None,
        shed_ratio=_if(tables.answered(Reading.REJECTED), _share(sum(rejected.values()), total)),
        rejected_per_s={key[0]: value for key, value in sorted(rejected.items())},
        would_reject_per_s={
            key[0]: value for key, value in sorted(tables.would_reject.get(service, {}).items())
        },
        inflight=tables.gauge(Reading.INFLIGHT, service),
        queue_depth=tables.gauge(Reading.QUEUE_DEPTH, service),
        queue_wait_p95_s=waited.seconds if waited else None,
        endpoints=_endpoints(tables, service),
        dependencies=_dependencies(tables, service, calls),
        tenants=_tenants(tables, service),
        instances_ready=_whole(tables.gauge(Reading.READY, service)),
        instances_reporting=_whole(tables.gauge(Reading.INSTANCES, service)),
        config_sequence=_whole(tables.gauge(Reading.CONFIG_SEQUENCE, service)),
        rate_history=past.rate.get(service, ()),
        error_history=past.error.get(service, ()),
    )


def _endpoints(tables: Tables, service: str) -> dict[str, EndpointSignals]:
    errors = tables.errors.get(service, {})
    latency = tables.latency.get(service, {})
    known = tables.answered(Reading.ERRORS)
    endpoints = {}
    for key, rate_per_s in sorted(tables.requests.get(service, {}).items()):
        if not key[0]:
            continue  # no route: counted for the service, but no endpoint of it
        buckets = latency.get(key, {})
        endpoints[key[0]] = EndpointSignals(
            rate_per_s=rate_per_s,
            error_ratio=_if(known, ratio(errors.get(key), rate_per_s)),
            p50=quantile(0.5, buckets),
            p95=quantile(0.95, buckets),
            p99=quantile(0.99, buckets),
        )
    return endpoints


def _dependencies(
    tables: Tables, service: str, calls: Mapping[str, _Calls]
) -> dict[str, DependencySignals]:
    states = group(tables.states.get(service, {}))
    breaker_calls = group(tables.breaker_calls.get(service, {}))
    exhausted = tables.exhausted.get(service, {})
    latency = tables.attempt_latency.get(service, {})
    names = set(calls) | set(states) | {key[0] for key in exhausted} | {key[0] for key in latency}
    dependencies = {}
    for name in sorted(names - {""}):
        edge = calls.get(name, _Calls())
        buckets: Buckets = latency.get((name,), {})
        within = fraction_within(native.SLOW_ATTEMPT_S, buckets)
        known = tables.answered(Reading.BUDGET_EXHAUSTED) and edge.requests_per_s is not None
        dependencies[name] = DependencySignals(
            rate_per_s=edge.requests_per_s,
            attempts_per_s=edge.attempts_per_s,
            attempts_per_request=edge.per_request,
            failure_ratio=ratio(edge.failed_per_s, edge.attempts_per_s),
            failures={
                outcome: share
                for outcome, value in sorted(edge.failures_per_s.items())
                if (share := ratio(value, edge.attempts_per_s)) is not None
            },
            slow_ratio=None if within is None else 1.0 - within,
            p50=quantile(0.5, buckets),
            p95=quantile(0.95, buckets),
            p99=quantile(0.99, buckets),
            budget_exhausted_per_s=exhausted.get((name,), 0.0 if known else None),
            breaker_states={
                state: round(count) for state, count in states.get(name, {}).items() if count > 0
            },
            breaker_rejected_per_s=_refused(breaker_calls.get(name)),
        )
    return dependencies


def _tenants(tables: Tables, service: str) -> dict[str, TenantSignals]:
    tenants = {}
    for tenant, outcomes in sorted(group(tables.tenants.get(service, {})).items()):
        total = sum(outcomes.values())
        limited = sum(
            value for outcome, value in outcomes.items() if outcome in native.LIMITED_OUTCOMES
        )
        tenants[tenant] = TenantSignals(rate_per_s=total, limited_ratio=ratio(limited, total))
    return tenants


def _calls(tables: Tables, service: str) -> dict[str, _Calls]:
    """What `service` sends, by dependency."""
    requests = group(tables.client_requests.get(service, {}))
    attempts = group(tables.client_attempts.get(service, {}))
    return {
        name: _Calls(
            requests_per_s=_total(requests.get(name)),
            sent_per_s=_total(requests.get(name), without=native.UNSENT_OUTCOMES),
            attempts_per_s=_total(attempts.get(name), without=native.UNSENT_OUTCOMES),
            failed_per_s=_total(attempts.get(name), without=_NO_FAILURES),
            failures_per_s={
                outcome: value
                for outcome, value in attempts.get(name, {}).items()
                if outcome not in _NO_FAILURES and value > 0
            },
        )
        for name in set(requests) | set(attempts)
    }


def _received(
    calls: Mapping[str, Mapping[str, _Calls]], targets: Mapping[Edge, str]
) -> dict[str, _Calls]:
    """What callers send to each service."""
    edges: dict[str, list[_Calls]] = defaultdict(list)
    for caller, by_name in calls.items():
        for name, edge in by_name.items():
            edges[targets.get((caller, name), name)].append(edge)
    return {service: _merge(arriving) for service, arriving in edges.items()}


def _merge(edges: Iterable[_Calls]) -> _Calls:
    # An edge with only one of the two figures would bend the ratio of the sum.
    whole = [
        edge for edge in edges if edge.sent_per_s is not None and edge.attempts_per_s is not None
    ]
    if not whole:
        return _Calls()
    return _Calls(
        requests_per_s=sum(edge.requests_per_s or 0.0 for edge in whole),
        sent_per_s=sum(edge.sent_per_s or 0.0 for edge in whole),
        attempts_per_s=sum(edge.attempts_per_s or 0.0 for edge in whole),
        failed_per_s=sum(edge.failed_per_s or 0.0 for edge in whole),
    )


def _total(
    by_outcome: Mapping[str, float] | None, *, without: frozenset[str] = frozenset()
) -> float | None:
    if by_outcome is None:
        return None
    return sum(value for outcome, value in by_outcome.items() if outcome not in without)


def _refused(by_outcome: Mapping[str, float] | None) -> float | None:
    if by_outcome is None:
        return None
    return sum(value for outcome, value in by_outcome.items() if outcome in native.REFUSED_OUTCOMES)


def _share(part: float, whole: float | None) -> float | None:
    """A ratio that never passes 1: the two counters are scraped together but rated apart."""
    share = ratio(part, whole)
    return None if share is None else min(1.0, share)


def _if(known: bool, value: float | None) -> float | None:
    return value if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)

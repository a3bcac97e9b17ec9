"""Where each field of a policy goes in Envoy, in which unit, or why it has no place there.

One list: the Tune page and docs/adapters/envoy.md both read it, and a test holds it against the
fields of the policy and against what the mapping sends.
`python -m controlplane.delivery.adapters.xds_places` prints the tables of the documentation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from controlplane.kernel.jsondoc import parse_path


class Way(StrEnum):
    """How Envoy takes a field: live, by a discovery that replaces more than it, or not at all."""

    RUNTIME = "runtime"
    ROUTES = "routes"
    CLUSTERS = "clusters"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Place:
    """What becomes of one field, or of a few that go together.

    `envoy` is the name it has there; `how` the conversion, or the reason why it has no place.
    """

    fields: tuple[str, ...]
    way: Way
    envoy: str
    how: str


_BREAKERS = "circuit_breakers.<cluster>.default"

_INBOUND = (
    Place(
        ("inbound.deadline_ms",), Way.ROUTES, "`timeout` of the route `other`",
        "Milliseconds become a duration. It begins when the request has arrived in full.",
    ),
    Place(
        ("inbound.concurrency.max",), Way.RUNTIME,
        f"`{_BREAKERS}.max_requests` and `.max_connections` of the inbound cluster",
        "The same number, per Envoy. Beyond it requests wait, as many as the queue holds; while "
        "more connections than a lowered limit are still open, they are refused instead.",
    ),
    Place(
        ("inbound.concurrency.queue.max",), Way.RUNTIME, f"`{_BREAKERS}.max_pending_requests`",
        "The same number, at least 1: a request whose connection is being made counts as waiting.",
    ),
    Place(
        ("inbound.concurrency.queue.timeout_ms",), Way.NONE, "",
        "It bounds how many requests wait, not how long: they wait until the deadline.",
    ),
    Place(
        ("inbound.concurrency.mode",), Way.RUNTIME, "the three thresholds above",
        "shadow sets them to 4294967295: Envoy's circuit breakers cannot count without refusing.",
    ),
    Place(
        ("inbound.rate.per_s", "inbound.rate.burst"), Way.ROUTES,
        "`token_bucket` of `tidegate.rate`",
        "burst is max_tokens. per_s becomes whole tokens each so many whole milliseconds, at least "
        "50, to within 2% of the rate and never above it: 500/s is 25 tokens each 0.05 s, 8/s one "
        "each 0.125 s; 0/s becomes one request a day. A burst under per_s / 20 caps the rate at 20 "
        "bursts a second. A new bucket starts full.",
    ),
    Place(
        ("inbound.rate.mode",), Way.RUNTIME, "`local_ratelimit.enforced`",
        "enforce is 100, shadow 0; `local_ratelimit.enabled` is always 100, so shadow counts.",
    ),
    Place(
        (
            "inbound.tenants.default.per_s", "inbound.tenants.default.burst",
            "inbound.tenants.named.<tenant>.per_s", "inbound.tenants.named.<tenant>.burst",
        ),
        Way.ROUTES, "`descriptors` of `tidegate.tenants`",
        "A bucket for each tenant that X-Tenant names, as for the rate. Envoy keeps the buckets "
        "of 500 tenants that are not named; the one unused for longest makes room, and starts full "
        "when it comes again.",
    ),
    Place(
        ("inbound.tenants.mode",), Way.ROUTES, "`filter_enforced` of `tidegate.tenants`",
        "enforce is 100 percent, shadow 0.",
    ),
    Place(
        ('inbound.endpoints["<endpoint>"].deadline_ms',), Way.ROUTES, "`timeout` of its route",
        "Milliseconds become a duration.",
    ),
    Place(
        ('inbound.endpoints["<endpoint>"].criticality',), Way.ROUTES,
        "`abort_percent_runtime` of `tidegate.shed` on its route",
        "Names the runtime key that sheds this criticality, for requests without X-Criticality.",
    ),
    Place(
        (
            'inbound.endpoints["<endpoint>"].rate.per_s',
            'inbound.endpoints["<endpoint>"].rate.burst',
            'inbound.endpoints["<endpoint>"].rate.mode',
        ),
        Way.ROUTES, "`tidegate.endpoint_rate` on its route",
        "A bucket as for the service's rate, besides it; shadow is 0 percent enforced.",
    ),
    Place(
        (
            'inbound.endpoints["<endpoint>"].concurrency.max',
            'inbound.endpoints["<endpoint>"].concurrency.queue.max',
            'inbound.endpoints["<endpoint>"].concurrency.queue.timeout_ms',
            'inbound.endpoints["<endpoint>"].concurrency.mode',
        ),
        Way.NONE, "", "It bounds concurrency per cluster, not per route.",
    ),
    Place(
        (
            'inbound.endpoints["<endpoint>"].tenants.default.per_s',
            'inbound.endpoints["<endpoint>"].tenants.default.burst',
            'inbound.endpoints["<endpoint>"].tenants.named.<tenant>.per_s',
            'inbound.endpoints["<endpoint>"].tenants.named.<tenant>.burst',
            'inbound.endpoints["<endpoint>"].tenants.mode',
        ),
        Way.NONE, "",
        "A route's own buckets would replace the service's, not count besides them.",
    ),
    Place(
        (
            'inbound.endpoints["<endpoint>"].idempotency.required',
            'inbound.endpoints["<endpoint>"].idempotency.ttl_s',
        ),
        Way.NONE, "", "It keeps no answers by Idempotency-Key: the service behind it has to.",
    ),
    Place(
        ("inbound.shedding.level",), Way.RUNTIME, "`tidegate.shed.<criticality>`",
        "100 percent of the criticalities that the level sheds are aborted with 503 and "
        "Retry-After, 0 percent of the others. A plain fault filter reads "
        "`fault.http.abort.abort_percent` instead: that of the default criticality, for all.",
    ),
    Place(
        ("inbound.shedding.default_criticality",), Way.ROUTES,
        "`abort_percent_runtime` of `tidegate.shed`",
        "As for an endpoint, for requests to all others.",
    ),
    Place(
        ("inbound.features.<feature>.enabled", "inbound.features.<feature>.off_at_level"),
        Way.NONE, "", "Features are parts of a service: a proxy has none to turn off.",
    ),
)  # fmt: skip

_CALLS = (
    Place(
        ("timeouts.connect_ms",), Way.CLUSTERS, "`connect_timeout` of the cluster",
        "Milliseconds become a duration.",
    ),
    Place(
        ("timeouts.attempt_ms",), Way.ROUTES, "`per_try_timeout`, or `timeout` of a single attempt",
        "Milliseconds become a duration.",
    ),
    Place(
        ("retry.max_attempts",), Way.ROUTES, "`num_retries`",
        "One less, as the first attempt is no retry; a retry meets another host if there is one.",
    ),
    Place(
        ("retry.on",), Way.ROUTES, "`retry_on` and `retriable_status_codes`",
        "connect_error is connect-failure and refused-stream; timeout is reset, which also is an "
        "answer that breaks off; statuses are retriable-status-codes.",
    ),
    Place(
        ("retry.methods",), Way.ROUTES, "`retriable_request_headers`",
        "idempotent retries GET, HEAD, OPTIONS, TRACE, PUT, DELETE, and what has an "
        "Idempotency-Key; all has no such condition.",
    ),
    Place(
        ("retry.backoff.base_ms", "retry.backoff.max_ms"), Way.ROUTES, "`retry_back_off`",
        "base_interval and max_interval: milliseconds become durations.",
    ),
    Place(
        ("retry.backoff.multiplier",), Way.NONE, "", "It always doubles the wait.",
    ),
    Place(
        ("retry.backoff.jitter",), Way.NONE, "",
        "It always waits at random, up to the bound: full jitter.",
    ),
    Place(
        ("retry.budget.ratio",), Way.RUNTIME, f"`{_BREAKERS}.retry_budget.budget_percent`",
        "A ratio becomes percent: 0.1 is 10. Envoy counts requests in flight, not those of a "
        "window.",
    ),
    Place(
        ("retry.budget.min_per_s",), Way.RUNTIME,
        f"`{_BREAKERS}.retry_budget.min_retry_concurrency`",
        "Retries per second times attempt_ms are retries at once (Little's law), rounded up.",
    ),
    Place(
        ("retry.budget.window_s",), Way.NONE, "",
        "Its retry budget counts requests in flight: there is no window.",
    ),
    Place(
        ("breaker.mode",), Way.RUNTIME,
        "`admission_control.<cluster>.enabled`, `upstream.maintenance_mode.<cluster>`",
        "auto turns admission control on; forced_open is 100 percent maintenance, which answers "
        "503. shadow and disabled turn both off; by :clusters shadow goes on counting ejections.",
    ),
    Place(
        ("breaker.failure_rate",), Way.RUNTIME,
        "`admission_control.<cluster>.sr_threshold`; `failure_percentage_threshold`",
        "Calls are refused in proportion from a success rate of 100 less this, in percent, at "
        "least 1; a host is ejected from this failure percentage on, in whole percent.",
    ),
    Place(
        ("breaker.min_calls",), Way.RUNTIME,
        "`admission_control.<cluster>.rps_threshold`; `failure_percentage_request_volume`",
        "Divided by the window it is the requests per second from which admission control judges; "
        "times the interval and divided by the window, rounded up, the calls from which a host is "
        "judged at the end of an interval.",
    ),
    Place(
        ("breaker.window.kind", "breaker.window.size"), Way.CLUSTERS, "`outlier_detection`",
        "A time window is the interval of failure percentages, at most open_s. A count window is "
        "consecutive_5xx: size times failure_rate, at least min_calls. Admission control keeps "
        "the sampling window of the bootstrap.",
    ),
    Place(
        ("breaker.open_s",), Way.CLUSTERS, "`base_ejection_time` and `max_ejection_time`",
        "Seconds become a duration; a host comes back at the first end of an interval after it.",
    ),
    Place(
        ("breaker.slow_call_ms", "breaker.slow_call_rate"), Way.NONE, "",
        "It judges calls by failure only: shorten the attempt timeout, then slow calls fail.",
    ),
    Place(
        ("breaker.half_open_calls",), Way.NONE, "",
        "It has no half-open state: a host that is back takes its whole share at once.",
    ),
)  # fmt: skip

_LIFECYCLE = (
    Place(
        ("lifecycle.drain.not_ready_s", "lifecycle.drain.timeout_s"), Way.NONE, "",
        "It drains as its command line says: --drain-time-s and --parent-shutdown-time-s.",
    ),
)  # fmt: skip

PREFIXES_OF_CALLS = ("outbound.defaults.", "outbound.dependencies.<dependency>.")


def _of_calls(place: Place) -> Place:
    fields = tuple(prefix + field for prefix in PREFIXES_OF_CALLS for field in place.fields)
    return Place(fields, place.way, place.envoy, place.how)


PLACES: tuple[Place, ...] = (*_INBOUND, *map(_of_calls, _CALLS), *_LIFECYCLE)


def find_place(path: str) -> Place | None:
    """Return where the field at a concrete path goes; None when the policy has no such field."""
    try:
        parts = list(parse_path(path))
    except ValueError:
        return None
    for above, name in _NAMES.items():
        depth = len(above)
        if tuple(parts[:depth]) == above and len(parts) > depth:
            parts[depth] = name
    if "named" in parts[:-1]:
        parts[parts.index("named") + 1] = "<tenant>"
    return _BY_PARTS.get(tuple(parts))


def note_on(path: str) -> str:
    """Return what somebody who tunes this field of an Envoy should know; "" when it is live."""
    place = find_place(path)
    if place is None or place.way is Way.RUNTIME:
        return ""
    if place.way is Way.NONE:
        return f"Envoy does not take this. {place.how}"
    return f"Envoy takes this by {_DISCOVERY[place.way]}, within 3 s."


def tables() -> str:
    """Return the tables of the documentation, as Markdown."""
    return "\n".join([*_live_table(), "", *_missing_table()]) + "\n"


def _live_table() -> Iterator[str]:
    yield "| policy | by | in Envoy | conversion |"
    yield "| --- | --- | --- | --- |"
    for place in PLACES:
        if place.way is not Way.NONE:
            yield f"| {_fields(place)} | `:{place.way.value}` | {place.envoy} | {place.how} |"


def _missing_table() -> Iterator[str]:
    yield "| policy | why Envoy does not take it |"
    yield "| --- | --- |"
    for place in PLACES:
        if place.way is Way.NONE:
            yield f"| {_fields(place)} | {place.how} |"


def _fields(place: Place) -> str:
    """The fields of calls stand there once, for a dependency; the defaults are the same."""
    shown = [field for field in place.fields if not field.startswith(PREFIXES_OF_CALLS[0])]
    return "<br>".join(f"`{field}`" for field in shown)


_NAMES = {
    ("inbound", "endpoints"): "<endpoint>",
    ("inbound", "features"): "<feature>",
    ("outbound", "dependencies"): "<dependency>",
}
_DISCOVERY = {Way.ROUTES: "route discovery", Way.CLUSTERS: "cluster discovery"}
_BY_PARTS = {
    tuple(field.replace('["<endpoint>"]', ".<endpoint>").split(".")): place
    for place in PLACES
    for field in place.fields
}

if __name__ == "__main__":
    sys.stdout.write(tables())

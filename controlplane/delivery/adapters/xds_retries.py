"""A retry policy in Envoy's words."""

from __future__ import annotations

from controlplane.delivery.adapters.xds_route_schema import (
    BackOff,
    HeaderMatch,
    HostPredicate,
    PreviousHosts,
    Regex,
    RetryPolicy,
    StringMatch,
)
from controlplane.delivery.adapters.xds_units import milliseconds
from controlplane.policies.domain.outbound import CallPolicy, Retry

OTHER_HOST_TRIES = 3

_CAUSES = {
    "connect_error": ("connect-failure", "refused-stream"),
    # A time-out of one attempt is a reset to Envoy, and so is an answer that breaks off.
    "timeout": ("reset",),
}
# Any of these is enough: what may be repeated safely, or says that it may.
_REPEATABLE = (
    HeaderMatch(
        name=":method",
        string_match=StringMatch(safe_regex=Regex(regex="GET|HEAD|OPTIONS|TRACE|PUT|DELETE")),
    ),
    HeaderMatch(name="idempotency-key", present_match=True),
)
_ANOTHER_HOST = HostPredicate(
    name="envoy.retry_host_predicates.previous_hosts", typed_config=PreviousHosts()
)


def retry_policy(calls: CallPolicy) -> RetryPolicy | None:
    """Return when calls are tried again; None when they never are."""
    retry = calls.retry
    if retry.max_attempts == 1 or not retry.on:
        return None
    statuses = tuple(sorted(int(cause) for cause in retry.on if cause not in _CAUSES))
    return RetryPolicy(
        retry_on=_retry_on(retry, has_statuses=bool(statuses)),
        num_retries=retry.max_attempts - 1,
        per_try_timeout=milliseconds(calls.timeouts.attempt_ms),
        retry_back_off=BackOff(
            base_interval=milliseconds(retry.backoff.base_ms),
            max_interval=milliseconds(retry.backoff.max_ms),
        ),
        retriable_status_codes=statuses or None,
        retriable_request_headers=_REPEATABLE if retry.methods == "idempotent" else None,
        retry_host_predicate=(_ANOTHER_HOST,),
        host_selection_retry_max_attempts=OTHER_HOST_TRIES,
    )


def _retry_on(retry: Retry, *, has_statuses: bool) -> str:
    words = [word for cause, found in _CAUSES.items() if cause in retry.on for word in found]
    if has_statuses:
        words.append("retriable-status-codes")
    return ",".join(words)

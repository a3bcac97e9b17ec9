"""Envoy's route configurations as far as Tidegate speaks them, strictly."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from controlplane.delivery.adapters.xds_schema import (
    Duration,
    FractionalPercent,
    Message,
    Positive,
    RuntimePercent,
    Text,
    TypedMessage,
    exactly_one,
    seconds_of,
)

_WHOLE_MS = re.compile(r"[0-9]+(?:\.[0-9]{1,3})?s")
SHORTEST_FILL_S = 0.05  # local_ratelimit refuses shorter fill intervals


class Regex(Message):
    """An RE2 expression, which has to match the whole text."""

    regex: Text


class StringMatch(Message):
    """Exactly one way to match a text."""

    exact: Text | None = None
    safe_regex: Regex | None = None
    ignore_case: Literal[True] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> StringMatch:
        return exactly_one(self, "exact", "safe_regex")


class HeaderMatch(Message):
    """A condition on one request header."""

    name: Text
    string_match: StringMatch | None = None
    present_match: Literal[True] | None = None
    invert_match: Literal[True] | None = None
    treat_missing_header_as_empty: Literal[True] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> HeaderMatch:
        return exactly_one(self, "string_match", "present_match")


class TokenBucket(Message):
    """Tokens to begin with, and how fast they come back."""

    max_tokens: Positive
    tokens_per_fill: Positive
    fill_interval: Duration

    @model_validator(mode="after")
    def _is_not_too_fast(self) -> TokenBucket:
        if seconds_of(self.fill_interval) < SHORTEST_FILL_S:
            raise ValueError(f"fill_interval {self.fill_interval} is under {SHORTEST_FILL_S} s")
        if not _WHOLE_MS.fullmatch(self.fill_interval):
            raise ValueError(f"Envoy drops what of {self.fill_interval} is under a millisecond")
        return self


class DescriptorEntry(Message):
    """One key of a descriptor; without a value it stands for every value, each by itself."""

    key: Text
    value: Text | None = None


class Descriptor(Message):
    """A bucket of its own for requests that have these entries."""

    entries: tuple[DescriptorEntry]
    token_bucket: TokenBucket


class RequestHeaderAction(Message):
    """Makes a descriptor entry from a request header."""

    header_name: Text
    descriptor_key: Text


class Action(Message):
    """One action of a rate limit."""

    request_headers: RequestHeaderAction


class RateLimitActions(Message):
    """How requests become descriptors."""

    actions: tuple[Action]


class LocalRateLimit(TypedMessage):
    """The local_ratelimit filter, as one virtual host or route configures it."""

    type_url: ClassVar[str] = (
        "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
    )

    stat_prefix: Text
    token_bucket: TokenBucket
    filter_enabled: RuntimePercent
    filter_enforced: RuntimePercent
    rate_limits: tuple[RateLimitActions] | None = None
    descriptors: tuple[Descriptor, ...] | None = None
    always_consume_default_token_bucket: Literal[False] | None = None
    max_dynamic_descriptors: Positive | None = None


class Abort(Message):
    """What the fault filter answers by itself, and how often."""

    http_status: Annotated[int, Field(ge=200, le=599)]
    percentage: FractionalPercent


class Fault(TypedMessage):
    """The fault filter, as one route configures it."""

    type_url: ClassVar[str] = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"

    abort: Abort
    abort_percent_runtime: Text
    headers: tuple[HeaderMatch, ...]


FilterConfigs = dict[Text, LocalRateLimit | Fault]


class BackOff(Message):
    """Waits between retries: fully jittered, doubling from base to max."""

    base_interval: Duration
    max_interval: Duration

    @model_validator(mode="after")
    def _is_ordered(self) -> BackOff:
        base_s, max_s = seconds_of(self.base_interval), seconds_of(self.max_interval)
        if not 0 < base_s <= max_s:
            raise ValueError(f"base_interval {base_s} s is not within 0 and {max_s} s")
        return self


class PreviousHosts(TypedMessage):
    """The predicate that passes over the hosts that were already tried."""

    type_url: ClassVar[str] = (
        "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    )


class HostPredicate(Message):
    """Which hosts a retry passes over."""

    name: Text
    typed_config: PreviousHosts


class RetryPolicy(Message):
    """When and how a route tries again."""

    retry_on: Annotated[str, StringConstraints(pattern=r"^[a-z-]+(?:,[a-z-]+)*$")]
    num_retries: Annotated[int, Field(ge=1, le=9)]
    per_try_timeout: Duration
    retry_back_off: BackOff
    retriable_status_codes: tuple[Annotated[int, Field(ge=400, le=599)], ...] | None = None
    retriable_request_headers: tuple[HeaderMatch, ...] | None = None
    retry_host_predicate: tuple[HostPredicate, ...]
    host_selection_retry_max_attempts: Annotated[int, Field(ge=1, le=10)]


class RouteAction(Message):
    """Where a request goes, for how long at most, and when it is tried again."""

    cluster: Text
    timeout: Duration
    retry_policy: RetryPolicy | None = None


class RouteMatch(Message):
    """Which requests a route is for: exactly one of the three ways to match a path."""

    path: Text | None = None
    prefix: Literal["/"] | None = None
    safe_regex: Regex | None = None
    headers: tuple[HeaderMatch, ...] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> RouteMatch:
        return exactly_one(self, "path", "prefix", "safe_regex")


class Route(Message):
    """One route of a virtual host."""

    name: Text
    match: RouteMatch
    route: RouteAction
    typed_per_filter_config: FilterConfigs | None = None


class VirtualHost(Message):
    """The routes of some domains."""

    name: Text
    domains: Annotated[tuple[Text, ...], Field(min_length=1)]
    routes: Annotated[tuple[Route, ...], Field(min_length=1)]
    typed_per_filter_config: FilterConfigs | None = None


class RouteConfiguration(TypedMessage):
    """One resource of `:routes`."""

    type_url: ClassVar[str] = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

    name: Text
    virtual_hosts: tuple[VirtualHost, ...]

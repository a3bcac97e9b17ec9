"""Rates, tenants and shedding as configurations of the filters in the bootstrap."""

from __future__ import annotations

from controlplane.delivery.adapters.xds_route_schema import (
    Abort,
    Action,
    Descriptor,
    DescriptorEntry,
    Fault,
    HeaderMatch,
    LocalRateLimit,
    RateLimitActions,
    Regex,
    RequestHeaderAction,
    StringMatch,
    TokenBucket,
)
from controlplane.delivery.adapters.xds_runtime import ENABLED_KEY, ENFORCED_KEY, SHED_KEY
from controlplane.delivery.adapters.xds_schema import UNLIMITED, FractionalPercent, percent
from controlplane.delivery.adapters.xds_units import bucket_of
from controlplane.policies.domain.declare import TENANTS
from controlplane.policies.domain.inbound import Rate, Tenants

# The names that the filters have in the bootstrap: by these, routes configure them.
SHED_FILTER = "tidegate.shed"
RATE_FILTER = "tidegate.rate"
ENDPOINT_RATE_FILTER = "tidegate.endpoint_rate"
TENANTS_FILTER = "tidegate.tenants"

TENANT_HEADER, CRITICALITY_HEADER = "x-tenant", "x-criticality"

# Requests that spell no criticality; those that do meet the filters of their own.
_SAYS_NONE = HeaderMatch(
    name=CRITICALITY_HEADER,
    string_match=StringMatch(
        safe_regex=Regex(regex="(?i)critical_plus|critical|sheddable_plus|sheddable")
    ),
    invert_match=True,
    treat_missing_header_as_empty=True,
)
_BOUNDLESS = TokenBucket(max_tokens=UNLIMITED, tokens_per_fill=UNLIMITED, fill_interval="1s")


def shedding(criticality: str) -> Fault:
    """Return the abort of requests that take their criticality from here: 503, by runtime key."""
    return Fault(
        abort=Abort(http_status=503, percentage=FractionalPercent(numerator=0)),
        abort_percent_runtime=SHED_KEY.format(criticality),
        headers=(_SAYS_NONE,),
    )


def service_rate(rate: Rate) -> LocalRateLimit:
    """Return the rate of the service; the runtime says whether it is enforced or in shadow."""
    return LocalRateLimit(
        stat_prefix="rate",
        token_bucket=bucket_of(rate),
        filter_enabled=percent(100, ENABLED_KEY),
        # The same in either mode: routes that change would fill the bucket again.
        filter_enforced=percent(100, ENFORCED_KEY),
    )


def endpoint_rate(rate: Rate) -> LocalRateLimit:
    """Return the rate of one endpoint, which counts besides the service's."""
    return LocalRateLimit(
        stat_prefix="endpoint_rate",
        token_bucket=bucket_of(rate),
        filter_enabled=percent(100),
        filter_enforced=percent(_enforced(rate.mode)),
    )


def tenant_rates(tenants: Tenants) -> LocalRateLimit | None:
    """Return a bucket for each named tenant, and one for each other that comes; None without any.

    A request without a tenant meets no limit here.
    """
    named = [
        _descriptor(name, bucket_of(rate))
        for name, rate in sorted(tenants.named.items())
        if rate is not None
    ]
    others = [] if tenants.default is None else [_descriptor(None, bucket_of(tenants.default))]
    if not named and not others:
        return None
    header = RequestHeaderAction(header_name=TENANT_HEADER, descriptor_key="tenant")
    return LocalRateLimit(
        stat_prefix="tenants",
        token_bucket=_BOUNDLESS,
        filter_enabled=percent(100),
        filter_enforced=percent(_enforced(tenants.mode)),
        rate_limits=(RateLimitActions(actions=(Action(request_headers=header),)),),
        descriptors=(*named, *others),
        always_consume_default_token_bucket=False,
        max_dynamic_descriptors=TENANTS.at_most,
    )


def _descriptor(tenant: str | None, bucket: TokenBucket) -> Descriptor:
    return Descriptor(entries=(DescriptorEntry(key="tenant", value=tenant),), token_bucket=bucket)


def _enforced(mode: str) -> int:
    return 100 if mode == "enforce" else 0

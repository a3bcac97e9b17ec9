"""The `inbound` half of the document: how a service protects itself from its callers."""

from __future__ import annotations

from typing import Literal

from controlplane.policies.domain.declare import (
    ENDPOINTS,
    FEATURES,
    TENANTS,
    Block,
    EndpointKey,
    FeatureName,
    TenantName,
    by_name,
    choice,
    measure,
    optional_part,
    part,
    switch,
)

Mode = Literal["enforce", "shadow"]
Criticality = Literal["critical_plus", "critical", "sheddable_plus", "sheddable"]

MODE_TITLE = "Mode"
MODE_HELP = (
    "enforce refuses what is over the limit. shadow lets it through and counts it in "
    "tidegate_would_reject_total: use it to see what a limit would do before it does it."
)


class Queue(Block):
    """Where requests wait for a free slot."""

    max: int = measure(
        50,
        "requests",
        (0, 100_000),
        "Queue length, per instance",
        "How many requests may wait for a slot in each instance. When it is full the next one is "
        "answered 503 at once. A short queue absorbs a burst; a long one turns a slow minute into "
        "a queue of requests whose callers have gone. 0: nobody waits.",
    )
    timeout_ms: int = measure(
        100,
        "ms",
        (1, 60_000),
        "Longest wait in the queue",
        "A request that waited this long for a slot is answered 503 with Retry-After. Keep it "
        "well under the deadline: time spent waiting is no longer there for the work.",
    )


class Concurrency(Block):
    """How many requests may run at once."""

    max: int = measure(
        200,
        "requests",
        (1, 100_000),
        "Requests at once, per instance",
        "How many requests each instance works on at once; further ones wait in the queue. The "
        "fleet takes this times the number of instances. Lower it when instances run out of "
        "memory, threads or connections; the usual value is a little over what is in flight at "
        "peak.",
    )
    queue: Queue = part(
        Queue, "Queue", "Requests over the limit wait here, briefly and in bounded number."
    )
    mode: Mode = choice("enforce", MODE_TITLE, MODE_HELP)


class Rate(Block):
    """How many requests a second."""

    per_s: float = measure(
        1000,
        "requests/s",
        (0, 1_000_000),
        "Requests per second, per instance",
        "What each instance accepts in the long run; beyond it answers 429 with Retry-After. The "
        "fleet takes this times the number of instances: for 3,000/s over 6 instances write 500. "
        "0 refuses everything.",
    )
    burst: int = measure(
        200,
        "requests",
        (1, 1_000_000),
        "Burst, per instance",
        "How many requests each instance takes at once after a quiet moment, before the rate "
        "binds. Too small refuses ordinary unevenness; too large lets a spike through whole.",
    )
    mode: Mode = choice("enforce", MODE_TITLE, MODE_HELP)


class TenantRate(Block):
    """How many requests a second one tenant gets."""

    per_s: float = measure(
        None,
        "requests/s",
        (0, 1_000_000),
        "Requests per second of one tenant, per instance",
        "What each instance accepts from one tenant in the long run; beyond it that tenant, and "
        "nobody else, is answered 429. The tenant gets this times the number of instances. "
        "0 refuses the tenant.",
        example=50,
    )
    burst: int = measure(
        20,
        "requests",
        (1, 1_000_000),
        "Burst of one tenant, per instance",
        "How many requests of one tenant each instance takes at once after a quiet moment.",
    )


class Tenants(Block):
    """What one tenant may take, so that it cannot starve the others."""

    default: TenantRate | None = optional_part(
        "Every tenant that is not named",
        "The limit of each tenant that has none of its own. null: only named tenants are limited.",
    )
    named: dict[TenantName, TenantRate | None] = by_name(
        TENANTS,
        "Tenants by name",
        "Limits of single tenants, instead of the default one. What an entry leaves out it takes "
        "from the default.",
    )
    mode: Mode = choice("enforce", MODE_TITLE, MODE_HELP)


class Idempotency(Block):
    """Whether an endpoint asks for an Idempotency-Key, and how long answers are kept."""

    required: bool = switch(
        False,
        "Idempotency-Key required",
        "true asks the service to refuse a request without an Idempotency-Key. Turn it on when "
        "every caller sends one: then a retried request cannot act twice.",
    )
    ttl_s: int = measure(
        86_400,
        "s",
        (1, 604_800),
        "How long answers are kept",
        "A repeated key within this time gets the first answer again. Longer than any caller "
        "goes on retrying.",
    )


class Endpoint(Block):
    """What one endpoint asks beyond its service."""

    deadline_ms: int = measure(
        3000,
        "ms",
        (1, 600_000),
        "Deadline",
        "How long a request to this endpoint may take in all, when its caller set no deadline. "
        "Left out: the service's.",
    )
    criticality: Criticality = choice(
        "critical",
        "Criticality",
        "What a request to this endpoint counts as when its caller did not say. Decides which "
        "shed level refuses it. Left out: shedding.default_criticality.",
    )
    rate: Rate | None = optional_part(
        "Rate of this endpoint",
        "Counts besides the service's rate, not instead of it. What it leaves out it takes from "
        "there. null or left out: no limit of its own.",
    )
    concurrency: Concurrency | None = optional_part(
        "Concurrency of this endpoint",
        "Counts besides the service's concurrency, not instead of it. What it leaves out it takes "
        "from there. null or left out: no limit of its own.",
    )
    tenants: Tenants | None = optional_part(
        "Tenants at this endpoint",
        "Counts besides the service's tenant limits. Default and mode left out are the service's; "
        "tenants named at the service are not named here. null or left out: no limit of its own.",
    )
    idempotency: Idempotency | None = optional_part(
        "Idempotency",
        "For the service's own store of answers by Idempotency-Key, by which a retried request "
        "acts once: the SDK hands these values to the service and enforces nothing itself. null "
        "or left out: none.",
    )


class Shedding(Block):
    """Which requests are refused first when there is too much to do."""

    level: int = measure(
        0,
        "level",
        (0, 3),
        "Shed level",
        "Refuses the least important requests with 503 and Retry-After, whatever the load. 0 sheds "
        "nothing, 1 sheds sheddable, 2 also sheddable_plus, 3 all but critical_plus. The quickest "
        "way to get an overloaded service back: raise it one level at a time.",
    )
    default_criticality: Criticality = choice(
        "critical",
        "Criticality when nobody said",
        "What a request counts as when neither its X-Criticality header nor its endpoint says.",
    )


class Feature(Block):
    """A part of the service that can be left out."""

    enabled: bool = switch(
        True,
        "Enabled",
        "false turns the feature off now, at any shed level.",
    )
    off_at_level: int | None = measure(
        None,
        "level",
        (1, 3),
        "Off from shed level",
        "The feature turns itself off from this shed level on, before requests of more weight "
        "are refused. null: the shed level leaves it alone.",
        example=1,
    )


class Inbound(Block):
    """How a service protects itself from its callers."""

    deadline_ms: int = measure(
        3000,
        "ms",
        (1, 600_000),
        "Deadline",
        "How long a request may take in all, when its caller set no deadline. What is left of it "
        "travels with every outbound call; past it the answer is 504. Lower it to free what slow "
        "requests hold.",
    )
    concurrency: Concurrency = part(
        Concurrency, "Concurrency", "Requests at once in each instance, and a bounded queue."
    )
    rate: Rate = part(Rate, "Rate", "Requests per second in each instance; beyond: 429.")
    tenants: Tenants = part(
        Tenants, "Tenants", "What one tenant may take of each instance; beyond: 429 for it alone."
    )
    endpoints: dict[EndpointKey, Endpoint | None] = by_name(
        ENDPOINTS, "Endpoints", "What single endpoints ask beyond their service."
    )
    shedding: Shedding = part(Shedding, "Shedding", "Refusing the least important requests first.")
    features: dict[FeatureName, Feature | None] = by_name(
        FEATURES, "Features", "Parts of the service that can be left out to keep the rest alive."
    )

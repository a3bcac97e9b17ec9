"""How a service protects itself from its callers: the `inbound` half of a policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from tidegate.document import DAY_MS, MANY, Block


class Criticality(StrEnum):
    """How much a request matters, most first (Google SRE's four)."""

    CRITICAL_PLUS = "critical_plus"
    CRITICAL = "critical"
    SHEDDABLE_PLUS = "sheddable_plus"
    SHEDDABLE = "sheddable"


class Mode(StrEnum):
    """Whether a limit acts, or only counts what it would have done."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """At most `per_s` requests a second, `burst` at once; beyond: 429."""

    per_s: float
    burst: float
    mode: Mode = Mode.ENFORCE


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How many requests may wait for a slot, and how long each may."""

    max: int
    timeout_ms: float


@dataclass(frozen=True, slots=True)
class ConcurrencyPolicy:
    """At most `max` requests at once, with a bounded queue; beyond: 503."""

    max: int
    queue: QueuePolicy
    mode: Mode = Mode.ENFORCE


@dataclass(frozen=True, slots=True)
class TenantsPolicy:
    """Rates per tenant: `named` ones first, then `default`; None limits nobody else."""

    default: RatePolicy | None
    named: Mapping[str, RatePolicy]
    mode: Mode = Mode.ENFORCE


@dataclass(frozen=True, slots=True)
class IdempotencyPolicy:
    """Whether an endpoint demands an Idempotency-Key, and how long answers are kept."""

    required: bool
    ttl_s: float


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """What one endpoint (`POST /orders`) asks beyond its service; None adds nothing."""

    deadline_ms: float
    criticality: Criticality
    rate: RatePolicy | None = None
    concurrency: ConcurrencyPolicy | None = None
    tenants: TenantsPolicy | None = None
    idempotency: IdempotencyPolicy | None = None


@dataclass(frozen=True, slots=True)
class SheddingPolicy:
    """The shed level, 0 to 3, and what a request counts as when nobody said."""

    level: int
    default_criticality: Criticality


@dataclass(frozen=True, slots=True)
class FeaturePolicy:
    """A part of the service that can be degraded; off from `off_at_level` on (None: never)."""

    enabled: bool
    off_at_level: int | None


@dataclass(frozen=True, slots=True)
class InboundPolicy:
    """How the service protects itself from its callers."""

    deadline_ms: float
    concurrency: ConcurrencyPolicy
    rate: RatePolicy
    tenants: TenantsPolicy
    shedding: SheddingPolicy
    endpoints: Mapping[str, EndpointPolicy]
    features: Mapping[str, FeaturePolicy]

    def endpoint(self, key: str) -> EndpointPolicy | None:
        """Return the policy of `METHOD /route`, or None when it has none of its own."""
        return self.endpoints.get(key)

    def feature_is_on(self, name: str) -> bool:
        """Say whether a feature may run at the present shed level; unknown ones may."""
        feature = self.features.get(name)
        if feature is None:
            return True
        shed = feature.off_at_level is not None and self.shedding.level >= feature.off_at_level
        return feature.enabled and not shed


def read_inbound(block: Block) -> InboundPolicy:
    """Return the `inbound` object as values; raises PolicyRejected with the path."""
    return InboundPolicy(
        deadline_ms=block.number("deadline_ms", 1, DAY_MS),
        concurrency=block.block("concurrency", _concurrency),
        rate=block.block("rate", _rate),
        tenants=block.block("tenants", _tenants),
        shedding=block.block("shedding", _shedding),
        endpoints=MappingProxyType(block.named("endpoints", _endpoint)),
        features=MappingProxyType(block.named("features", _feature)),
    )


def _mode(block: Block) -> Mode:
    return block.choice("mode", Mode) if block.has("mode") else Mode.ENFORCE


def _rate(block: Block) -> RatePolicy:
    return RatePolicy(
        per_s=block.number("per_s", 0, MANY),
        burst=block.number("burst", 0, MANY),
        mode=_mode(block),
    )


def _concurrency(block: Block) -> ConcurrencyPolicy:
    return ConcurrencyPolicy(
        max=block.integer("max", 1, MANY), queue=block.block("queue", _queue), mode=_mode(block)
    )


def _queue(block: Block) -> QueuePolicy:
    return QueuePolicy(
        max=block.integer("max", 0, MANY), timeout_ms=block.number("timeout_ms", 0, DAY_MS)
    )


def _tenants(block: Block) -> TenantsPolicy:
    return TenantsPolicy(
        default=block.maybe("default", _rate),
        named=MappingProxyType(block.named("named", _rate)),
        mode=_mode(block),
    )


def _shedding(block: Block) -> SheddingPolicy:
    return SheddingPolicy(
        level=block.integer("level", 0, 3),
        default_criticality=block.choice("default_criticality", Criticality),
    )


def _endpoint(block: Block) -> EndpointPolicy:
    return EndpointPolicy(
        deadline_ms=block.number("deadline_ms", 1, DAY_MS),
        criticality=block.choice("criticality", Criticality),
        rate=block.maybe("rate", _rate),
        concurrency=block.maybe("concurrency", _concurrency),
        tenants=block.maybe("tenants", _tenants),
        idempotency=block.maybe("idempotency", _idempotency),
    )


def _idempotency(block: Block) -> IdempotencyPolicy:
    return IdempotencyPolicy(
        required=block.boolean("required"), ttl_s=block.number("ttl_s", 1, MANY)
    )


def _feature(block: Block) -> FeaturePolicy:
    level = block.integer("off_at_level", 1, 3) if block.has("off_at_level") else None
    return FeaturePolicy(enabled=block.boolean("enabled"), off_at_level=level)

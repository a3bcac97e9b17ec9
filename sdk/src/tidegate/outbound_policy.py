"""How a service calls others: the `outbound` half of a policy."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from tidegate.document import DAY_MS, MANY, Block


class BreakerMode(StrEnum):
    """How a breaker decides: by its window, by its window without acting, or by force."""

    AUTO = "auto"
    SHADOW = "shadow"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


class WindowKind(StrEnum):
    """What a breaker's window counts: the last seconds, or the last calls."""

    TIME = "time"
    COUNT = "count"


class RetryMethods(StrEnum):
    """Which HTTP methods may be retried; `idempotent` includes any call with an Idempotency-Key."""

    IDEMPOTENT = "idempotent"
    ALL = "all"


class Jitter(StrEnum):
    """How a backoff is spread: anywhere from zero up to it, or not at all."""

    FULL = "full"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class TimeoutsPolicy:
    """How long one attempt may take to connect, and in all."""

    connect_ms: float
    attempt_ms: float


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """The wait before attempt n+1: up to `base_ms` * `multiplier`^(n-1), at most `max_ms`."""

    base_ms: float
    multiplier: float
    max_ms: float
    jitter: Jitter


@dataclass(frozen=True, slots=True)
class BudgetPolicy:
    """The most that retries may add: a ratio of requests, plus a floor for quiet services."""

    ratio: float
    min_per_s: float
    window_s: float


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is tried again; `on` holds `connect_error`, `timeout`, statuses."""

    max_attempts: int
    on: frozenset[str]
    methods: RetryMethods
    backoff: BackoffPolicy
    budget: BudgetPolicy


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """A breaker's window: `size` seconds (`time`) or calls (`count`)."""

    kind: WindowKind
    size: int


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When calls to a dependency stop, and how they are tried again."""

    mode: BreakerMode
    window: WindowPolicy
    min_calls: int
    failure_rate: float
    slow_call_ms: float
    slow_call_rate: float
    open_s: float
    half_open_calls: int


@dataclass(frozen=True, slots=True)
class DependencyPolicy:
    """How the service calls one dependency."""

    timeouts: TimeoutsPolicy
    retry: RetryPolicy
    breaker: BreakerPolicy


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """How the service calls others."""

    defaults: DependencyPolicy
    dependencies: Mapping[str, DependencyPolicy]

    def dependency(self, name: str) -> DependencyPolicy:
        """Return the policy for calls to `name`; the defaults when it has none of its own."""
        return self.dependencies.get(name, self.defaults)


def read_outbound(block: Block) -> OutboundPolicy:
    """Return the `outbound` object as values; raises PolicyRejected with the path."""
    return OutboundPolicy(
        defaults=block.block("defaults", _dependency),
        dependencies=MappingProxyType(block.named("dependencies", _dependency)),
    )


def _dependency(block: Block) -> DependencyPolicy:
    return DependencyPolicy(
        timeouts=block.block("timeouts", _timeouts),
        retry=block.block("retry", _retry),
        breaker=block.block("breaker", _breaker),
    )


def _timeouts(block: Block) -> TimeoutsPolicy:
    return TimeoutsPolicy(
        connect_ms=block.number("connect_ms", 1, DAY_MS),
        attempt_ms=block.number("attempt_ms", 1, DAY_MS),
    )


_RETRY_CAUSE = re.compile(r"connect_error|timeout|[45][0-9]{2}")


def _retry(block: Block) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=block.integer("max_attempts", 1, 100),
        on=block.texts("on", _RETRY_CAUSE, "connect_error, timeout or a status from 400 to 599"),
        methods=block.choice("methods", RetryMethods),
        backoff=block.block("backoff", _backoff),
        budget=block.block("budget", _budget),
    )


def _backoff(block: Block) -> BackoffPolicy:
    return BackoffPolicy(
        base_ms=block.number("base_ms", 0, DAY_MS),
        multiplier=block.number("multiplier", 1, 100),
        max_ms=block.number("max_ms", 0, DAY_MS),
        jitter=block.choice("jitter", Jitter),
    )


def _budget(block: Block) -> BudgetPolicy:
    return BudgetPolicy(
        ratio=block.number("ratio", 0, 100),
        min_per_s=block.number("min_per_s", 0, MANY),
        window_s=block.number("window_s", 1, 86_400),
    )


def _breaker(block: Block) -> BreakerPolicy:
    return BreakerPolicy(
        mode=block.choice("mode", BreakerMode),
        window=block.block("window", _window),
        min_calls=block.integer("min_calls", 1, MANY),
        failure_rate=block.number("failure_rate", 0, 1),
        slow_call_ms=block.number("slow_call_ms", 0, DAY_MS),
        slow_call_rate=block.number("slow_call_rate", 0, 1),
        open_s=block.number("open_s", 0, 86_400),
        half_open_calls=block.integer("half_open_calls", 1, MANY),
    )


def _window(block: Block) -> WindowPolicy:
    return WindowPolicy(kind=block.choice("kind", WindowKind), size=block.integer("size", 1, MANY))

"""The `outbound` half of the document: how a service calls others. And how it leaves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from controlplane.policies.domain.declare import (
    DEPENDENCIES,
    Block,
    DependencyName,
    by_name,
    choice,
    measure,
    part,
    words,
)

RETRY_CAUSE_FORM = "connect_error, timeout, 408, 425, 429 or a status from 500 to 599, as text"
MAX_RETRY_CAUSES = 20
RetryCause = Annotated[
    str, StringConstraints(pattern=r"^(?:connect_error|timeout|408|425|429|5[0-9][0-9])$")
]


class Timeouts(Block):
    """How long one attempt may take."""

    connect_ms: int = measure(
        250,
        "ms",
        (1, 60_000),
        "Connect timeout",
        "How long one attempt may take to connect. Inside a data centre a connection that takes "
        "longer than this will not come.",
    )
    attempt_ms: int = measure(
        1000,
        "ms",
        (1, 600_000),
        "Attempt timeout",
        "How long one attempt may take in all, connecting included; never longer than what is "
        "left of the deadline. A little over the dependency's p99: lower cuts off good answers, "
        "higher lets a slow dependency hold your requests.",
    )


class Backoff(Block):
    """The wait before a retry."""

    base_ms: int = measure(
        50,
        "ms",
        (1, 60_000),
        "First wait",
        "The longest wait before the first retry.",
    )
    multiplier: float = measure(
        2,
        "times",
        (1, 10),
        "Growth",
        "Each further wait is up to this many times the one before. 1: no growth.",
    )
    max_ms: int = measure(
        2000,
        "ms",
        (1, 60_000),
        "Longest wait",
        "No wait is longer, however many retries came before. It still has to fit the deadline.",
    )
    jitter: Literal["full", "none"] = choice(
        "full",
        "Jitter",
        "full waits anywhere between nothing and the bound, so that callers that failed together "
        "do not come back together. none waits exactly the bound: for tests.",
    )


class Budget(Block):
    """The most that retries may add."""

    ratio: float = measure(
        0.1,
        "ratio",
        (0, 1),
        "Retry budget",
        "Retries as a share of requests, counted in each instance over the window: 0.1, which "
        "is 10%, lets one retry through for ten requests, however much fails. The number that ends "
        "a retry storm: lower it first. 1, which is 100%, lets retries double the load.",
    )
    min_per_s: float = measure(
        1,
        "retries/s",
        (0, 1000),
        "Floor of the budget, per instance",
        "Retries per second that each instance may always make, so that a service with little "
        "traffic can retry at all. The fleet adds this times the number of instances.",
    )
    window_s: int = measure(
        10,
        "s",
        (1, 600),
        "Window of the budget",
        "Over how many seconds requests and retries are counted. Shorter reacts faster; longer "
        "lets a burst of failures borrow from a quiet minute.",
    )


class Retry(Block):
    """When a failed attempt is tried again."""

    max_attempts: int = measure(
        3,
        "attempts",
        (1, 10),
        "Attempts, the first included",
        "How often one request is tried in all: 1 never retries, 3 retries twice. Retries "
        "multiply along a chain of services: three levels of 3 are 27 attempts at the bottom.",
    )
    on: list[RetryCause] = words(
        ["connect_error", "timeout", "503"],
        MAX_RETRY_CAUSES,
        "Retried on",
        "Which failures are worth another attempt: connect_error, timeout, and statuses as text. "
        "A list replaces the one of the layer below.",
    )
    methods: Literal["idempotent", "all"] = choice(
        "idempotent",
        "Methods",
        "idempotent retries what may be repeated safely: GET, HEAD, OPTIONS, TRACE, PUT, DELETE, "
        "and anything sent with an Idempotency-Key. all also repeats plain POST and PATCH, "
        "which may then act twice.",
    )
    backoff: Backoff = part(Backoff, "Backoff", "How long to wait before each retry.")
    budget: Budget = part(
        Budget, "Budget", "The most that retries may add to the load, counted in each instance."
    )


class Window(Block):
    """What a breaker remembers."""

    kind: Literal["time", "count"] = choice(
        "time",
        "Kind of window",
        "time judges the calls of the last seconds, count the last calls however long they took "
        "to come.",
    )
    size: int = measure(
        30,
        "s or calls",
        (1, 10_000),
        "Size of the window",
        "Seconds (time, at most 3600) or calls (count) that are judged. Larger is calmer and "
        "slower.",
    )


class Breaker(Block):
    """When calls to a dependency stop, and how they are tried again."""

    mode: Literal["auto", "shadow", "forced_open", "disabled"] = choice(
        "auto",
        "Mode",
        "auto opens and closes by what it sees. shadow does so too but lets every call through "
        "and counts what it would have stopped. forced_open stops all calls now. disabled stops "
        "none.",
    )
    window: Window = part(Window, "Window", "Which calls are judged.")
    min_calls: int = measure(
        20,
        "calls",
        (1, 10_000),
        "Calls before it judges, per instance",
        "Each instance judges only once it has seen this many calls in its window: fewer calls "
        "than that never open the breaker. Lower it for a dependency that is called rarely.",
    )
    failure_rate: float = measure(
        0.5,
        "ratio",
        (0.01, 1),
        "Failure rate that opens it",
        "The breaker opens when this share of the calls in the window failed.",
    )
    slow_call_ms: int = measure(
        1000,
        "ms",
        (1, 600_000),
        "A call is slow from",
        "A call that took this long counts as slow, whether it succeeded or not. Not above the "
        "attempt timeout, or nothing is ever slow.",
    )
    slow_call_rate: float = measure(
        0.8,
        "ratio",
        (0.01, 1),
        "Slow-call rate that opens it",
        "The breaker opens when this share of the calls in the window was slow. 1: only when all "
        "of them were.",
    )
    open_s: float = measure(
        15,
        "s",
        (0.1, 3600),
        "How long it stays open",
        "Calls fail at once for this long; then a few probes are let through.",
    )
    half_open_calls: int = measure(
        5,
        "calls",
        (1, 1000),
        "Probes, per instance",
        "How many calls each instance lets through to probe. They close the breaker or open it "
        "again, by the same rates.",
    )


class CallPolicy(Block):
    """How calls to one dependency are made."""

    timeouts: Timeouts = part(Timeouts, "Timeouts", "How long one attempt may take.")
    retry: Retry = part(Retry, "Retry", "When a failed attempt is tried again.")
    breaker: Breaker = part(Breaker, "Breaker", "When calls stop because they would fail anyway.")


class Outbound(Block):
    """How a service calls others."""

    defaults: CallPolicy = part(
        CallPolicy,
        "Every dependency",
        "How calls are made to a dependency, as far as it has no values of its own.",
    )
    dependencies: dict[DependencyName, CallPolicy | None] = by_name(
        DEPENDENCIES,
        "Dependencies",
        "How calls to single dependencies are made. What an entry leaves out it takes from "
        "outbound.defaults.",
    )


class Drain(Block):
    """How an instance leaves."""

    not_ready_s: float = measure(
        5,
        "s",
        (0, 300),
        "Not ready before it refuses",
        "How long a stopping instance says it is not ready and still answers, so that load "
        "balancers notice. A little over their check interval.",
    )
    timeout_s: float = measure(
        30,
        "s",
        (0, 3600),
        "Longest wait for requests in flight",
        "After that it stops, whatever is still running. At least the deadline.",
    )


class Lifecycle(Block):
    """How an instance comes and goes."""

    drain: Drain = part(Drain, "Drain", "How an instance leaves without dropping requests.")

"""Warnings about a complete policy that need no live signal: allowed, and perhaps not wise.

A contradiction is refused (`checks`); a guardrail says what a policy will do, so that somebody
decides with open eyes. `stop` asks for a second look before it is applied, `warn` is worth
reading, `ok` is said of what was examined and found sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controlplane.kernel.jsondoc import format_path

Verdict = Literal["stop", "warn", "ok"]

# Google SRE: clients keep retries under 10% of requests; a fifth more is already hard to carry.
RETRY_RATIO_WARN = 0.2
RETRY_RATIO_STOP = 1.0
RETRY_FLOOR_WARN_PER_S = 10
LARGE_ATTEMPT_MS = 5000


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One judgement: how serious, about which field, and a sentence to act on."""

    verdict: Verdict
    path: str
    sentence: str


def check_guardrails(policy: Mapping[str, Any]) -> list[Guardrail]:
    """Return the judgements on a complete policy, in document order.

    Calls are judged for `outbound.defaults` and for each dependency.
    """
    return [*_inbound(policy["inbound"]), *_outbound(policy), *_lifecycle(policy)]


def retry_wait_ms(retry: Mapping[str, Any]) -> float:
    """Return the longest that all backoffs of one request together can last, in ms."""
    backoff = retry["backoff"]
    waits = range(retry["max_attempts"] - 1)
    return float(
        sum(
            min(backoff["max_ms"], backoff["base_ms"] * backoff["multiplier"] ** number)
            for number in waits
        )
    )


def _inbound(inbound: Mapping[str, Any]) -> Iterator[Guardrail]:
    yield from _service_limits(inbound)
    yield from _tenants(inbound["tenants"], inbound["rate"], ("inbound", "tenants"))
    for key, endpoint in inbound["endpoints"].items():
        yield from _endpoint(endpoint, inbound, ("inbound", "endpoints", key))


def _service_limits(inbound: Mapping[str, Any]) -> Iterator[Guardrail]:
    shedding, rate = inbound["shedding"], inbound["rate"]
    if rate["per_s"] == 0 and rate["mode"] == "enforce":
        yield Guardrail("stop", "inbound.rate.per_s", "A rate of 0 refuses every request.")
    if shedding["level"] == 3 and shedding["default_criticality"] != "critical_plus":
        yield Guardrail(
            "stop",
            "inbound.shedding.level",
            "Shed level 3 refuses every request that does not say critical_plus; one that says "
            f"nothing counts as {shedding['default_criticality']}.",
        )


def _tenants(
    tenants: Mapping[str, Any], rate: Mapping[str, Any], parts: tuple[str, ...]
) -> Iterator[Guardrail]:
    limits = {(*parts, "default"): tenants["default"]} if tenants["default"] else {}
    limits |= {(*parts, "named", name): limit for name, limit in tenants["named"].items()}
    for place, limit in limits.items():
        if limit["per_s"] > rate["per_s"]:
            yield Guardrail(
                "warn",
                format_path((*place, "per_s")),
                f"{_number(limit['per_s'])} requests/s for one tenant are more than the "
                f"{_number(rate['per_s'])} that all tenants get together: it never binds.",
            )


def _endpoint(
    endpoint: Mapping[str, Any], inbound: Mapping[str, Any], parts: tuple[str, ...]
) -> Iterator[Guardrail]:
    rate, concurrency = endpoint.get("rate"), endpoint.get("concurrency")
    if rate and rate["per_s"] > inbound["rate"]["per_s"]:
        yield Guardrail(
            "warn",
            format_path((*parts, "rate", "per_s")),
            f"{_number(rate['per_s'])} requests/s for one endpoint are more than the "
            f"{_number(inbound['rate']['per_s'])} of the whole service: it never binds.",
        )
    if concurrency and concurrency["max"] > inbound["concurrency"]["max"]:
        yield Guardrail(
            "warn",
            format_path((*parts, "concurrency", "max")),
            f"{concurrency['max']} requests at once for one endpoint are more than the "
            f"{inbound['concurrency']['max']} of the whole service: it never binds.",
        )
    if endpoint.get("tenants"):
        yield from _tenants(endpoint["tenants"], rate or inbound["rate"], (*parts, "tenants"))
    queue = inbound["concurrency"]["queue"]
    if queue["max"] > 0 and queue["timeout_ms"] >= endpoint["deadline_ms"]:
        yield Guardrail(
            "warn",
            format_path((*parts, "deadline_ms")),
            f"A request may wait {queue['timeout_ms']} ms for a slot of the service, which is "
            f"all of this endpoint's deadline of {endpoint['deadline_ms']} ms.",
        )


def _outbound(policy: Mapping[str, Any]) -> Iterator[Guardrail]:
    outbound, deadline_ms = policy["outbound"], policy["inbound"]["deadline_ms"]
    places: dict[tuple[str, ...], Any] = {("outbound", "defaults"): outbound["defaults"]}
    for name, calls in outbound["dependencies"].items():
        places["outbound", "dependencies", name] = calls
    for parts, calls in places.items():
        target = f"calls to {parts[2]}" if len(parts) > 2 else "calls"
        yield _time(calls, deadline_ms, target, parts)
        yield _methods(calls["retry"], target, parts)
        yield from _budget(calls["retry"], target, parts)
        yield from _jitter(calls["retry"], parts)
        yield from _breaker(calls, target, parts)
    yield from _one_timeout(outbound["dependencies"], deadline_ms)


def _time(
    calls: Mapping[str, Any], deadline_ms: int, target: str, parts: tuple[str, ...]
) -> Guardrail:
    """Worst-case attempts plus backoff fit the deadline."""
    attempt_ms, retry = calls["timeouts"]["attempt_ms"], calls["retry"]
    attempts, wait_ms = retry["max_attempts"], retry_wait_ms(retry)
    worst_ms = attempts * attempt_ms + wait_ms
    path = format_path((*parts, "timeouts", "attempt_ms"))
    needed = (
        f"{attempts} attempts of {attempt_ms} ms plus {_number(wait_ms)} ms of backoff"
        if attempts > 1
        else f"one attempt of {attempt_ms} ms"
    )
    if worst_ms <= deadline_ms:
        return Guardrail("ok", path, f"The deadline of {deadline_ms} ms covers {needed}.")
    said = f"The deadline of {deadline_ms} ms is shorter than {needed}"
    if attempts == 1 or worst_ms - attempt_ms < deadline_ms:
        return Guardrail(
            "warn", path, f"{said}: the last attempt may be cut {_early(worst_ms, deadline_ms)}."
        )
    fitting = min(attempts - 1, max(1, int(deadline_ms // attempt_ms)))
    fair_ms = int((deadline_ms - wait_ms) // attempts)
    shorter = f", or attempt_ms to {fair_ms}" if fair_ms > 0 else ""
    return Guardrail(
        "stop",
        path,
        f"{said}: when {target} time out, the last attempt is never made. Lower max_attempts to "
        f"{fitting}{shorter}.",
    )


def _early(worst_ms: float, deadline_ms: int) -> str:
    return f"up to {_number(worst_ms - deadline_ms)} ms early"


def _methods(retry: Mapping[str, Any], target: str, parts: tuple[str, ...]) -> Guardrail:
    """No retries of what may act twice."""
    path = format_path((*parts, "retry", "methods"))
    if retry["max_attempts"] == 1:
        return Guardrail("ok", path, f"No retries of {target}, so nothing acts twice.")
    if retry["methods"] == "all":
        return Guardrail(
            "stop",
            path,
            f"Retries of {target} repeat POST and PATCH without an Idempotency-Key, which may "
            "then act twice: set methods to idempotent, and let callers send a key.",
        )
    return Guardrail(
        "ok",
        path,
        f"Retries of {target} stay on idempotent methods and on what has an Idempotency-Key.",
    )


def _budget(retry: Mapping[str, Any], target: str, parts: tuple[str, ...]) -> Iterator[Guardrail]:
    """Every retry has a budget that holds."""
    if retry["max_attempts"] == 1:
        return
    budget = retry["budget"]
    path = format_path((*parts, "retry", "budget", "ratio"))
    added = f"Retries of {target} may add {_percent(budget['ratio'])} to the load"
    if budget["ratio"] >= RETRY_RATIO_STOP:
        yield Guardrail("stop", path, f"{added}: that is no budget; 10% is usual.")
    elif budget["ratio"] > RETRY_RATIO_WARN:
        yield Guardrail("warn", path, f"{added}; 10% is usual.")
    elif budget["ratio"] == 0 and budget["min_per_s"] == 0:
        yield Guardrail("warn", path, f"The retry budget is 0: {target} are never retried.")
    else:
        yield Guardrail("ok", path, f"{added} at most.")
    if budget["min_per_s"] > RETRY_FLOOR_WARN_PER_S:
        yield Guardrail(
            "warn",
            format_path((*parts, "retry", "budget", "min_per_s")),
            f"Each instance may always make {_number(budget['min_per_s'])} retries/s, whatever "
            "the ratio says: on a quiet dependency that is no budget.",
        )


def _jitter(retry: Mapping[str, Any], parts: tuple[str, ...]) -> Iterator[Guardrail]:
    if retry["max_attempts"] > 1 and retry["backoff"]["jitter"] == "none":
        yield Guardrail(
            "warn",
            format_path((*parts, "retry", "backoff", "jitter")),
            "Without jitter, callers that failed together come back together: set full.",
        )


def _breaker(calls: Mapping[str, Any], target: str, parts: tuple[str, ...]) -> Iterator[Guardrail]:
    breaker, attempt_ms = calls["breaker"], calls["timeouts"]["attempt_ms"]
    path = format_path((*parts, "breaker", "mode"))
    if breaker["mode"] == "forced_open":
        verdict: Verdict = "stop" if parts[-1] == "defaults" else "warn"
        yield Guardrail(verdict, path, f"Forced open: all {target} fail at once.")
    if breaker["mode"] == "disabled":
        yield Guardrail("warn", path, f"Disabled: nothing stops {target} when they all fail.")
    if breaker["slow_call_ms"] > attempt_ms and breaker["mode"] in ("auto", "shadow"):
        yield Guardrail(
            "warn",
            format_path((*parts, "breaker", "slow_call_ms")),
            f"A call is cut off after {attempt_ms} ms, so none is ever as slow as "
            f"{breaker['slow_call_ms']} ms: only failures open this breaker.",
        )


def _one_timeout(
    dependencies: Mapping[str, Mapping[str, Any]], deadline_ms: int
) -> Iterator[Guardrail]:
    """One large time-out everywhere is the commonest mistake."""
    timeouts = {calls["timeouts"]["attempt_ms"] for calls in dependencies.values()}
    if len(dependencies) < 2 or len(timeouts) > 1:
        return
    (attempt_ms,) = timeouts
    if attempt_ms >= min(LARGE_ATTEMPT_MS, deadline_ms):
        yield Guardrail(
            "warn",
            "outbound.dependencies",
            f"All {len(dependencies)} dependencies have the same large attempt timeout, "
            f"{attempt_ms} ms: set each a little over its own p99.",
        )


def _lifecycle(policy: Mapping[str, Any]) -> Iterator[Guardrail]:
    drain = policy["lifecycle"]["drain"]
    deadline_ms = max(
        [
            policy["inbound"]["deadline_ms"],
            *(each["deadline_ms"] for each in policy["inbound"]["endpoints"].values()),
        ]
    )
    if drain["timeout_s"] * 1000 < deadline_ms:
        yield Guardrail(
            "warn",
            "lifecycle.drain.timeout_s",
            f"A stopping instance waits {_number(drain['timeout_s'])} s; requests may take "
            f"{_number(deadline_ms / 1000)} s, and the last of them are cut off.",
        )


def _percent(ratio: float) -> str:
    return f"{ratio * 100:g}%"


def _number(value: float) -> str:
    return f"{value:g}" if value < 1_000_000 else f"{value:.0f}"

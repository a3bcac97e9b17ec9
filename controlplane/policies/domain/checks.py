"""Contradictions: values that are each in range and cannot all be meant.

They are judged on the complete policy, since the other half may come from a lower layer. What is
merely unwise, or useless today, is a matter of `guardrails`, not of refusal: nobody should be
kept from cutting a limit in an incident because another limit is now above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.kernel.errors import Problem
from controlplane.kernel.jsondoc import format_path
from controlplane.policies.domain.fields import DOCUMENT, Node, Section
from controlplane.policies.domain.validate import field_problems

MAX_TIME_WINDOW_S = 3600

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")
_PARAMETER = re.compile(r"\{[^{}:]*")


def check_policy(complete: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with a complete policy, in document order; empty when it may be served.

    Fields out of range and fields that nothing completed come first; contradictions are looked
    for only when there are none.
    """
    problems = field_problems(complete) or list(_missing(complete, DOCUMENT, ()))
    if problems:
        return problems
    return [*_inbound(complete["inbound"]), *_outbound(complete["outbound"])]


def _missing(value: Mapping[str, Any], section: Section, parts: tuple[str, ...]) -> list[Problem]:
    """A policy that is served is complete: clients refuse one that is not."""
    found: list[Problem] = []
    for name, child in section.children.items():
        if name not in value and not child.is_nullable:
            path = format_path((*parts, name))
            found.append(Problem(path, f"missing: {_why_needed(parts, child)}"))
    for name, item in value.items():
        under = section.entry or section.children[name]
        if item is None and section.entry is not None:
            path = format_path((*parts, name))
            found.append(Problem(path, "null deletes in a layer; a complete policy leaves it out"))
        elif isinstance(item, Mapping) and isinstance(under, Section):
            found += _missing(item, under, (*parts, name))
    return found


def _why_needed(parts: tuple[str, ...], child: Node) -> str:
    if "tenants" in parts:
        return "a tenant's limit needs per_s, in requests/s per instance; no layer gives it"
    return f"a complete policy has {child.title.lower()} here"


def _inbound(inbound: Mapping[str, Any]) -> Iterator[Problem]:
    yield from _queue(inbound, ("inbound",))
    routes: dict[str, str] = {}
    for key, endpoint in inbound["endpoints"].items():
        parts = ("inbound", "endpoints", key)
        yield from _queue(endpoint, parts)
        yield from _idempotency(key, endpoint, parts)
        twin = routes.setdefault(_PARAMETER.sub("{", key), key)
        if twin != key:
            yield Problem(
                format_path(parts),
                f"names the same requests as {twin}: keep one of them",
            )


def _queue(block: Mapping[str, Any], parts: tuple[str, ...]) -> Iterator[Problem]:
    concurrency = block.get("concurrency")
    if not concurrency:
        return
    queue = concurrency["queue"]
    if queue["max"] > 0 and queue["timeout_ms"] >= block["deadline_ms"]:
        yield Problem(
            format_path((*parts, "concurrency", "queue", "timeout_ms")),
            f"a request may wait {queue['timeout_ms']} ms for a slot, which is all of its deadline "
            f"({format_path((*parts, 'deadline_ms'))} {block['deadline_ms']} ms): set timeout_ms "
            f"under {block['deadline_ms']}, or queue.max 0 for no queue",
        )


def _idempotency(
    key: str, endpoint: Mapping[str, Any], parts: tuple[str, ...]
) -> Iterator[Problem]:
    idempotency = endpoint.get("idempotency")
    if not idempotency:
        return
    method = key.partition(" ")[0]
    if idempotency["required"] and method in _SAFE_METHODS:
        yield Problem(
            format_path((*parts, "idempotency", "required")),
            f"{method} changes nothing and is sent without an Idempotency-Key: every ordinary "
            f"request would be refused; set required false, or ask it of POST or PATCH",
        )
    if idempotency["ttl_s"] * 1000 < endpoint["deadline_ms"]:
        yield Problem(
            format_path((*parts, "idempotency", "ttl_s")),
            f"a key would be forgotten after {idempotency['ttl_s']} s while its first request may "
            f"still run (deadline_ms {endpoint['deadline_ms']}): set ttl_s to at least "
            f"{-(-endpoint['deadline_ms'] // 1000)}",
        )


def _outbound(outbound: Mapping[str, Any]) -> Iterator[Problem]:
    """The same contradiction is told once: a dependency that only inherits it is left out."""
    inherited = list(_calls(outbound["defaults"]))
    for parts, message in inherited:
        yield Problem(format_path(("outbound", "defaults", *parts)), message)
    for name, calls in outbound["dependencies"].items():
        for finding in _calls(calls):
            if finding not in inherited:
                parts, message = finding
                yield Problem(format_path(("outbound", "dependencies", name, *parts)), message)


Finding = tuple[tuple[str, ...], str]


def _calls(calls: Mapping[str, Any]) -> Iterator[Finding]:
    timeouts = calls["timeouts"]
    if timeouts["connect_ms"] > timeouts["attempt_ms"]:
        yield (
            ("timeouts", "connect_ms"),
            f"connecting may take {timeouts['connect_ms']} ms, but the attempt that includes it "
            f"only {timeouts['attempt_ms']} ms: set connect_ms to at most "
            f"{timeouts['attempt_ms']}, or raise attempt_ms",
        )
    yield from _retry(calls["retry"])
    yield from _breaker(calls["breaker"])


def _retry(retry: Mapping[str, Any]) -> Iterator[Finding]:
    backoff, budget = retry["backoff"], retry["budget"]
    if retry["max_attempts"] > 1 and not retry["on"]:
        yield (
            ("retry", "on"),
            f"{retry['max_attempts']} attempts, but no failure is retried: name some, such as "
            f"connect_error and timeout, or set max_attempts to 1",
        )
    if backoff["base_ms"] > backoff["max_ms"]:
        yield (
            ("retry", "backoff", "base_ms"),
            f"the first wait, {backoff['base_ms']} ms, is above the longest, {backoff['max_ms']} "
            f"ms: set base_ms to at most {backoff['max_ms']}, or raise max_ms",
        )
    floor_count = budget["min_per_s"] * budget["window_s"]
    if budget["ratio"] == 0 and 0 < floor_count < 1:
        yield (
            ("retry", "budget", "min_per_s"),
            f"{budget['min_per_s']} retries/s over {budget['window_s']} s is less than one, so "
            f"none is ever let through: set min_per_s to 0 if that is meant, or to at least "
            f"{1 / budget['window_s']:.3g}",
        )


def _breaker(breaker: Mapping[str, Any]) -> Iterator[Finding]:
    window = breaker["window"]
    if window["kind"] == "time" and window["size"] > MAX_TIME_WINDOW_S:
        yield (
            ("breaker", "window", "size"),
            f"{window['size']} is a number of seconds when kind is time: set at most "
            f"{MAX_TIME_WINDOW_S}, or kind count for a number of calls",
        )
    if window["kind"] == "count" and breaker["min_calls"] > window["size"]:
        yield (
            ("breaker", "min_calls"),
            f"the window holds {window['size']} calls, so {breaker['min_calls']} are never seen "
            f"and the breaker never judges: set min_calls to at most {window['size']}, or raise "
            f"window.size",
        )

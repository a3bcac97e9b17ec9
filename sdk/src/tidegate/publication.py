"""What the config API answers: a policy for now, and the policies that take over by the clock."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tidegate.errors import PolicyRejected
from tidegate.policy import Policy, parse_policy

SCHEMA = "tidegate/v1"

_SEQUENCES = range(2**63)  # what any database, and the number of a metric, can hold


class Misdirected(PolicyRejected):
    """A body that is not what was asked for, or not what its header says."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A body as it came. Without an `etag` (an event of a stream) the body's own counts."""

    body: bytes
    etag: str | None
    signature: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One policy of a publication, in force from `at_unix_s` until the next step's."""

    at_unix_s: float
    etag: str
    reason: str
    policy: Policy


@dataclass(frozen=True, slots=True)
class PollAdvice:
    """How the server wants to be polled when nothing is held open."""

    interval_s: float = 10.0
    jitter_ratio: float = 0.2
    max_stale_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Publication:
    """Everything one answer said, checked; `steps` are in the order of their times.

    The first step is in force since ever. `cohort` is empty when it is for every instance.
    """

    environment: str
    service: str
    version: object
    sequence: int
    steps: tuple[Step, ...]
    poll: PollAdvice
    cohort: str = ""

    def step_at(self, now_unix_s: float) -> Step:
        """The step in force at this time by the server's clock."""
        current = self.steps[0]
        for step in self.steps[1:]:
            if step.at_unix_s <= now_unix_s:
                current = step
        return current

    def next_change_s(self, now_unix_s: float) -> float | None:
        """When the next step takes over; None when no more are scheduled."""
        later = [step.at_unix_s for step in self.steps if step.at_unix_s > now_unix_s]
        return min(later, default=None)


def parse_etag(text: str) -> str:
    """The opaque tag inside an ETag header: weak or strong, quoted or not, is the same tag."""
    return text.strip().removeprefix("W/").strip('"')


def parse_body(body: bytes) -> Mapping[str, object]:
    """The JSON object in an answer.

    Raises:
        PolicyRejected: not UTF-8, not JSON, or not an object.
    """
    try:
        document = json.loads(body.decode())  # bytes might be UTF-16 to json
    except (ValueError, RecursionError) as problem:
        raise PolicyRejected("", f"the answer is not JSON ({problem})") from None
    if not isinstance(document, dict):
        raise PolicyRejected("", "the answer is not a JSON object")
    return document


def named_etag(body: bytes) -> str | None:
    """The tag in a body whose signature is good, or that nobody verifies; None without one."""
    try:
        named = parse_body(body).get("etag")
    except PolicyRejected:
        return None
    return parse_etag(named) if isinstance(named, str) and named else None


def check_address(
    document: Mapping[str, object],
    delivery: Delivery,
    address: tuple[str, str],
    *,
    is_verified: bool,
) -> None:
    """Check that a body is what was asked for, and what its ETag header says it is.

    Args:
        address: the environment and the service that were asked for.
        is_verified: its signature is good, so that what it says of itself is what counts.

    Raises:
        Misdirected: a good body, in the wrong place.
    """
    named = document.get("etag")
    is_needed = is_verified or delivery.etag is None
    if (is_needed or named is not None) and (not isinstance(named, str) or not named):
        raise Misdirected("etag", f"expected the tag of this policy, not {named!r}")
    if named is not None and delivery.etag not in (None, named):
        raise Misdirected("etag", f"the body is {named}, its header says {delivery.etag}")
    environment, service = address
    # The fleet default, served to a service that nobody registered, names no service.
    if document.get("environment") != environment or document.get("service") not in ("", service):
        found = f"{document.get('environment')}/{document.get('service')}"
        raise Misdirected("", f"it is for {found}, not for {environment}/{service}")


def parse_publication(document: Mapping[str, object], etag: str) -> Publication:
    """Check a whole publication, scheduled policies included, before any of it is trusted.

    A scheduled policy that could not be applied at its time makes the whole unusable now:
    otherwise an override could not end.

    Raises:
        PolicyRejected: names the path and what would be right.
    """
    if document.get("schema") != SCHEMA:
        raise PolicyRejected("schema", f"expected {SCHEMA}, not {document.get('schema')!r}")
    sequence = document.get("sequence")
    if isinstance(sequence, bool) or not isinstance(sequence, int) or sequence not in _SEQUENCES:
        raise PolicyRejected("sequence", f"expected a whole number, not {repr(sequence)[:40]}")
    scheduled = document.get("scheduled") or []
    if not isinstance(scheduled, list):
        raise PolicyRejected("scheduled", "expected a list")
    later = [_parse_step(entry, f"scheduled.{index}") for index, entry in enumerate(scheduled)]
    now = Step(-math.inf, parse_etag(etag), "", _parse_policy(document.get("policy"), "policy"))
    return Publication(
        environment=str(document.get("environment", "")),
        service=str(document.get("service", "")),
        version=document.get("version"),
        sequence=sequence,
        steps=(now, *sorted(later, key=lambda step: step.at_unix_s)),
        poll=_parse_poll(document.get("poll")),
        cohort=str(document.get("cohort") or ""),
    )


def _parse_step(entry: object, path: str) -> Step:
    if not isinstance(entry, Mapping):
        raise PolicyRejected(path, "expected an object")
    etag = entry.get("etag")
    if not isinstance(etag, str) or not etag:
        raise PolicyRejected(f"{path}.etag", "expected the tag of this step")
    return Step(
        at_unix_s=_parse_instant(entry.get("at"), f"{path}.at"),
        etag=parse_etag(etag),
        reason=str(entry.get("reason", "")),
        policy=_parse_policy(entry.get("policy"), f"{path}.policy"),
    )


def _parse_policy(document: object, path: str) -> Policy:
    if not isinstance(document, Mapping):
        raise PolicyRejected(path, "expected an object")
    try:
        return parse_policy(document)
    except PolicyRejected as problem:
        raise PolicyRejected(f"{path}.{problem.path}", problem.reason) from None


def _parse_instant(text: object, path: str) -> float:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PolicyRejected(path, f"expected an RFC 3339 time with its zone, not {text!r}")
    return moment.timestamp()


def _parse_poll(advice: object) -> PollAdvice:
    """The server's advice; what is missing or senseless in it is replaced, never fatal."""
    usual = PollAdvice()
    if not isinstance(advice, Mapping):
        return usual
    return PollAdvice(
        interval_s=_bounded(advice.get("interval_s"), 1.0, 3600.0, usual.interval_s),
        jitter_ratio=_bounded(advice.get("jitter"), 0.0, 1.0, usual.jitter_ratio),
        max_stale_s=_bounded(advice.get("max_stale_s"), 1.0, 1e9, usual.max_stale_s),
    )


def _bounded(value: object, low: float, high: float, otherwise: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return otherwise
    return float(value)

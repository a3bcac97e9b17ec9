"""A publication becomes a snapshot: each answer is rendered once, when it is published."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from controlplane.delivery.domain.snapshot import PublishedPolicy, ScheduledPolicy, Snapshot, Step

SCHEMA = "tidegate/v1"
POLL_HINTS = {"interval_s": 10, "jitter": 0.2, "max_stale_s": 86400}


def compile_snapshot(published: PublishedPolicy) -> Snapshot:
    """Render every step of `published`: the policy of that time, and what is scheduled after it."""
    scheduled = sorted(published.scheduled, key=lambda later: later.at)
    steps = [
        Step(
            at_unix=published.issued_at.timestamp(),
            etag=published.etag,
            body=_render(published, published.etag, published.policy, scheduled),
        )
    ]
    for number, step in enumerate(scheduled, start=1):
        steps.append(
            Step(
                at_unix=step.at.timestamp(),
                etag=step.etag,
                body=_render(published, step.etag, step.policy, scheduled[number:]),
            )
        )
    return Snapshot(
        environment=published.environment,
        service=published.service,
        version=published.version,
        sequence=published.sequence,
        steps=tuple(steps),
        cohort=published.cohort,
        ratio=published.ratio,
        salt=published.salt,
    )


def rfc3339(instant: datetime) -> str:
    """Return an aware instant as RFC 3339 in UTC, with a fraction only when it has one."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _render(
    published: PublishedPolicy, etag: str, policy: Any, later: list[ScheduledPolicy]
) -> bytes:
    # Only a part of the instances may keep what is for a part of them: they have to be told.
    cohort = {"cohort": published.cohort} if published.cohort else {}
    rendered = orjson.dumps(
        {
            "schema": SCHEMA,
            "environment": published.environment,
            "service": published.service,
            **cohort,
            "version": published.version,
            "sequence": published.sequence,
            "etag": etag,
            "issued_at": rfc3339(published.issued_at),
            "policy": policy,
            "scheduled": [
                {
                    "at": rfc3339(step.at),
                    "reason": step.reason,
                    "etag": step.etag,
                    "policy": step.policy,
                }
                for step in later
            ],
            "poll": POLL_HINTS,
        }
    )
    # What orjson returns keeps the buffer it was written in, up to eight times as long.
    return bytes(memoryview(rendered))

"""Rows that delivery reads: publications and tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import connection

from controlplane.access.domain.tokens import hash_token
from controlplane.access.models import ServiceToken
from controlplane.delivery.models import Acknowledgement, InstanceReport
from controlplane.policies.models import Publication
from controlplane.registry.models import Instance
from tests.delivery.builders import CHECKOUT_TOKEN, NOW

Result = TypeVar("Result")


async def in_thread(work: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
    """Do database work from a coroutine, and leave no connection behind in that thread."""

    def run() -> Result:
        try:
            return work(*arguments, **named)
        finally:
            connection.close()

    return await asyncio.to_thread(run)


def publication_row(
    sequence: int,
    *,
    service: str = "checkout",
    environment: str = "prod",
    policy: Mapping[str, Any] | None = None,
    scheduled: Sequence[Mapping[str, Any]] = (),
    issued_at: datetime = NOW,
    canary_ratio: float | None = None,
    etag: str = "",
) -> Publication:
    return Publication.objects.create(
        sequence=sequence,
        environment=environment,
        service_slug=service,
        cohort="" if canary_ratio is None else "canary",
        ratio=canary_ratio,
        salt="" if canary_ratio is None else "salt",
        version_number=3,
        etag=etag or f"{sequence}-0-9f3c",
        policy=policy or {"inbound": {"deadline_ms": 3000}},
        scheduled=list(scheduled),
        cause="version.published",
        actor="oncall",
        reason="a test",
        issued_at=issued_at,
    )


def scheduled_entry(sequence: int, step: int, *, after_s: float) -> dict[str, Any]:
    return {
        "at": (NOW + timedelta(seconds=after_s)).isoformat(),
        "reason": "override 1 ends",
        "etag": f"{sequence}-{step}-9f3c",
        "policy": {"inbound": {"deadline_ms": 1000}},
    }


def token_row(
    text: str = CHECKOUT_TOKEN, service: str = "checkout", expires_at: datetime | None = None
) -> ServiceToken:
    return ServiceToken.objects.create(
        kind="service",
        token_hash=hash_token(text),
        label="test",
        environment="prod",
        service=service,
        created_at=NOW,
        created_by="oncall",
        expires_at=expires_at,
    )


def instance(
    name: str,
    *,
    sequence: int | None,
    service: str = "checkout",
    seen_at: datetime = NOW,
    first_seen_at: datetime = NOW - timedelta(hours=1),
    **report: Any,
) -> None:
    row = Instance.objects.create(
        environment="prod", service_slug=service, instance_id=name,
        first_seen_at=first_seen_at, last_seen_at=seen_at,
    )  # fmt: skip
    fields = {"state": "applied", "etag": f"{sequence}-0-9f3c", "sequence": sequence}
    InstanceReport.objects.create(instance=row, **(fields | report))


def acknowledge(
    name: str,
    sequence: int,
    *,
    after_s: float = 0.0,
    at: datetime | None = None,
    outcome: str = "applied",
    reason: str = "",
    service: str = "checkout",
) -> None:
    Acknowledgement.objects.create(
        environment="prod", service_slug=service, sequence=sequence, instance_id=name,
        outcome=outcome, reason=reason, at=at or NOW + timedelta(seconds=after_s),
    )  # fmt: skip

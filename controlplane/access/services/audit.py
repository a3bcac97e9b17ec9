"""The audit log: append-only, and chained by hash so that a change to the past shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from controlplane.access.domain.actors import Actor
from controlplane.access.domain.chain import ChainReport, EntryContent, entry_hash
from controlplane.access.models import AuditEntry, AuditHead
from controlplane.kernel.instruments import counter
from controlplane.kernel.jsondoc import canonical_json

_ENTRIES = counter("tidegate_access_audit_entries_total", "Audit entries by action.", ("action",))
_SHOWN_PROBLEMS = 20


def record(
    *,
    actor: Actor,
    action: str,
    subject: str,
    at: datetime,
    environment: str = "",
    service: str = "",
    reason: str = "",
    data: Mapping[str, Any],
) -> AuditEntry:
    """Append one entry, in the transaction of the change it records.

    The head row stays locked until that transaction ends, so concurrent writers queue and the
    chain cannot fork. Lock order: the sequence (if any) before the audit head.

    Args:
        action: noun.verb-in-past, such as "override.opened".
        subject: what it was done to, such as "override:17".
        data: JSON; what changed, for the Changes page.
    """
    with transaction.atomic():
        head = _locked_head()
        content = EntryContent(
            number=head.number + 1,
            at=at,
            actor=actor.name,
            actor_kind=actor.kind,
            action=action,
            subject=subject,
            environment=environment,
            service=service,
            reason=reason,
            request_id=actor.request_id,
            data=json.loads(canonical_json(data)),
            previous_hash=head.entry_hash,
        )
        entry = AuditEntry.objects.create(
            number=content.number,
            at=content.at,
            actor=content.actor,
            actor_kind=content.actor_kind,
            action=content.action,
            subject=content.subject,
            environment=content.environment,
            service=content.service,
            reason=content.reason,
            request_id=content.request_id,
            data=content.data,
            previous_hash=content.previous_hash,
            entry_hash=entry_hash(content),
        )
        AuditHead.objects.filter(pk=1).update(number=entry.number, entry_hash=entry.entry_hash)
        transaction.on_commit(_ENTRIES.labels(action).inc, robust=True)
    return entry


def verify_chain() -> ChainReport:
    """Check that no entry is missing, changed or out of order. Reads the whole log once.

    What it cannot see is a log cut off together with its head: keep `newest_hash` elsewhere.
    """
    head = AuditHead.objects.filter(pk=1).first() or AuditHead()
    problems: list[str] = []
    number, previous_hash = 0, ""
    entries = AuditEntry.objects.filter(number__lte=head.number).order_by("number")
    for entry in entries.iterator(chunk_size=500):
        number += 1
        if entry.number != number:
            problems.append(f"entries {number} to {entry.number - 1} are missing")
            number = entry.number
        if entry.previous_hash != previous_hash:
            problems.append(f"entry {entry.number} does not follow the entry before it")
        if entry.entry_hash != entry_hash(_content_of(entry)):
            problems.append(f"entry {entry.number} was changed after it was written")
        previous_hash = entry.entry_hash
    if number != head.number:
        problems.append(f"entries {number + 1} to {head.number} are missing")
    elif previous_hash != head.entry_hash:
        problems.append(f"the head does not match entry {number}")
    return ChainReport(number, previous_hash, tuple(problems[:_SHOWN_PROBLEMS]))


def _locked_head() -> AuditHead:
    AuditHead.objects.get_or_create(pk=1)
    return AuditHead.objects.select_for_update().get(pk=1)


def _content_of(entry: AuditEntry) -> EntryContent:
    return EntryContent(
        number=entry.number,
        at=entry.at,
        actor=entry.actor,
        actor_kind=entry.actor_kind,
        action=entry.action,
        subject=entry.subject,
        environment=entry.environment,
        service=entry.service,
        reason=entry.reason,
        request_id=entry.request_id,
        data=entry.data,
        previous_hash=entry.previous_hash,
    )

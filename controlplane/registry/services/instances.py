"""Instances as the config API sees them, written in batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from controlplane.registry.models import Instance

InstanceKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class InstanceSighting:
    """One instance polled at `seen_at`. Its service may be unregistered."""

    environment: str
    service_slug: str
    instance_id: str
    seen_at: datetime

    @property
    def key(self) -> InstanceKey:
        """What tells instances apart: environment, service, instance."""
        return (self.environment, self.service_slug, self.instance_id)


def record_instances(sightings: Sequence[InstanceSighting]) -> dict[InstanceKey, int]:
    """Make or refresh the row of every instance seen; return their row numbers by key.

    One statement per 500 instances; repeating a batch changes nothing. This is observation, not
    a decision of anybody, so it takes no actor and leaves no audit entry.
    """
    newest = {
        sighting.key: sighting for sighting in sorted(sightings, key=lambda seen: seen.seen_at)
    }
    rows = Instance.objects.bulk_create(
        [
            Instance(
                environment=seen.environment,
                service_slug=seen.service_slug,
                instance_id=seen.instance_id,
                first_seen_at=seen.seen_at,
                last_seen_at=seen.seen_at,
            )
            # One order for all writers, so that two batches cannot wait for each other.
            for seen in (newest[key] for key in sorted(newest))
        ],
        update_conflicts=True,
        unique_fields=["environment", "service_slug", "instance_id"],
        update_fields=["last_seen_at"],
        batch_size=500,
    )
    return {(row.environment, row.service_slug, row.instance_id): row.pk for row in rows}


def touch_instances(pks: Collection[int], *, seen_at: datetime) -> set[int]:
    """Note that instances known by their row numbers were seen again; return those that exist.

    A fraction of the price of `record_instances`. Rows are locked in the order of their numbers,
    so that two batches cannot wait for each other.
    """
    rows = Instance.objects.filter(pk__in=pks)
    with transaction.atomic():
        existing = set(
            rows.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True)
        )
        rows.update(last_seen_at=seen_at)
    return existing


def prune_silent_instances(*, silent_since: datetime) -> int:
    """Delete instances that have not polled since then, with their reports; return how many."""
    _, by_model = Instance.objects.filter(last_seen_at__lt=silent_since).delete()
    return by_model.get("registry.Instance", 0)

"""Forgetting instances that are gone, and answers nobody will look at again."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.delivery.models import Acknowledgement
from controlplane.registry.services.instances import prune_silent_instances as prune_instances

SILENT_FOR = timedelta(days=1)
ANSWERS_KEPT_FOR = timedelta(days=30)
BATCH = 5_000
MAX_BATCHES = 20  # a run every ten minutes: 14 million rows a day


def prune_silent_instances(*, now: datetime) -> int:
    """Delete instances not seen for a day and answers of over 30 days ago; return how many rows.

    Answers go 5,000 at a time, so that no writer waits long for the lock; a backlog of more than
    100,000 is left to the next run.
    """
    count = prune_instances(silent_since=now - SILENT_FOR)
    for _ in range(MAX_BATCHES):
        old = Acknowledgement.objects.filter(at__lt=now - ANSWERS_KEPT_FOR).order_by("at")
        keys = list(old.values_list("pk", flat=True)[:BATCH])
        if keys:
            Acknowledgement.objects.filter(pk__in=keys).delete()
        count += len(keys)
        if len(keys) < BATCH:
            break
    return count

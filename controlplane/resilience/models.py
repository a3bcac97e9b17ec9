"""Idempotency keys of the operator API."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class IdempotencyKey(models.Model):
    """One request of one client, made safe to repeat.

    The row is claimed before the work starts and holds the stored answer once it is done, so a
    repeat finds either the answer or a request still in progress, never a second action.
    """

    client = models.CharField(max_length=200, help_text="who sent it: user or token name")
    key = models.CharField(max_length=255)
    request_hash = models.CharField(max_length=64, help_text="SHA-256 of method, path and body")
    state = models.CharField(
        max_length=16, choices=[("in_progress", "in progress"), ("done", "done")]
    )
    answer_status = models.PositiveSmallIntegerField(null=True, blank=True)
    answer_body = models.JSONField(null=True, blank=True)
    answer_headers = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["client", "key"], name="one_use_per_client_and_key"),
            models.CheckConstraint(
                condition=~Q(state="done") | Q(answer_status__isnull=False),
                name="done_keys_hold_an_answer",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.client} {self.key} ({self.state})"

"""Alerts, and what each channel has been told of them."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q


class Alert(models.Model):
    """Something that needs somebody, from when it began until it was over.

    The same labels fire once at a time: an alert that comes back after it was resolved is a new
    row. What is told to whom is in its notices.
    """

    source = models.CharField(max_length=40, help_text="who watches for it, such as a task")
    fingerprint = models.CharField(max_length=32, help_text="of the labels")
    labels = models.JSONField()
    annotations = models.JSONField(default=dict)
    url = models.CharField(max_length=500, blank=True, help_text="where to look")
    starts_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["source", "fingerprint"],
                condition=Q(resolved_at=None),
                name="one_open_alert_per_source_and_labels",
            ),
            models.CheckConstraint(
                condition=Q(resolved_at=None) | Q(resolved_at__gte=F("starts_at")),
                name="alert_is_resolved_after_it_starts",
            ),
        ]

    def __str__(self) -> str:
        state = "firing" if self.resolved_at is None else "resolved"
        return f"{self.labels.get('alertname', self.source)} {state}"


class Notice(models.Model):
    """What one channel has been told of one alert, and when it is to be told next.

    `next_at` is also the claim of whoever tells it: taking it forward by compare-and-swap makes
    one sender of many. Empty when there is nothing more to tell.
    """

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="notices")
    channel = models.CharField(
        max_length=16, choices=[("alertmanager", "Alertmanager"), ("webhook", "webhook")]
    )
    told = models.CharField(
        max_length=16,
        blank=True,
        choices=[("", "nothing"), ("firing", "firing"), ("resolved", "resolved")],
    )
    told_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0, help_text="failed since the last success")
    next_at = models.DateTimeField(null=True, blank=True, db_index=True)
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["alert", "channel"], name="one_notice_per_alert_and_channel"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.channel} of alert {self.alert_id}: {self.told or 'nothing'}"

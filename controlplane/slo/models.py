"""Objectives, the counts they are judged by, and how far counting has come."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from controlplane.registry.models import Environment, Service


class Objective(models.Model):
    """What one service promises: a share of its requests, over a rolling window of days."""

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="objectives")
    kind = models.CharField(
        max_length=16, choices=[("availability", "availability"), ("latency", "latency")]
    )
    target = models.FloatField(help_text="ratio of good requests, such as 0.999")
    threshold_ms = models.FloatField(
        null=True, blank=True, help_text="latency only: the bound of a bucket, in ms"
    )
    window_days = models.PositiveSmallIntegerField(default=30)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["service_id", "kind"]
        constraints = [
            models.UniqueConstraint(
                fields=["service", "kind"], name="one_objective_per_service_and_kind"
            ),
            models.CheckConstraint(
                condition=Q(target__gt=0, target__lt=1), name="objective_target_is_between_0_and_1"
            ),
            models.CheckConstraint(
                condition=Q(kind="availability", threshold_ms=None)
                | Q(kind="latency", threshold_ms__gt=0),
                name="objective_has_a_threshold_if_it_is_about_latency",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.service} {self.kind} {self.target:g}"


class BudgetSlice(models.Model):
    """Good and all requests of one minute or one hour. No row means no traffic was seen."""

    MINUTE_S, HOUR_S = 60, 3600

    objective = models.ForeignKey(Objective, on_delete=models.CASCADE, related_name="slices")
    start = models.DateTimeField()
    length_s = models.PositiveIntegerField(default=MINUTE_S)
    good = models.FloatField()
    total = models.FloatField()

    class Meta:
        ordering = ["objective_id", "start"]
        constraints = [
            models.UniqueConstraint(
                fields=["objective", "length_s", "start"], name="one_slice_per_objective_and_start"
            ),
            models.CheckConstraint(
                condition=Q(good__gte=0, good__lte=F("total")),
                name="slice_counts_no_more_good_than_all",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.objective_id} {self.start:%Y-%m-%d %H:%M} {self.good:g}/{self.total:g}"


class Evaluation(models.Model):
    """How far the objectives of an environment have been counted."""

    environment = models.OneToOneField(
        Environment, on_delete=models.CASCADE, related_name="evaluation"
    )
    counted_until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.environment} until {self.counted_until:%Y-%m-%d %H:%M}"

"""Environments, services and what they consist of."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from controlplane.access.models import Team


class Environment(models.Model):
    """`prod`, `staging`: everything below is per environment."""

    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=120)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.slug


class Service(models.Model):
    """One deployable that answers requests, owned by one team."""

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="services")
    slug = models.SlugField(max_length=63)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="services")
    tier = models.PositiveSmallIntegerField(default=2, help_text="1 (most critical) to 4")
    description = models.TextField(blank=True)
    runbook_url = models.URLField(blank=True)
    dialect = models.CharField(
        max_length=40, default="native", help_text="how its metrics are named"
    )
    registered_at = models.DateTimeField()

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "slug"], name="one_service_per_slug_and_environment"
            ),
            models.CheckConstraint(
                condition=Q(tier__gte=1, tier__lte=4), name="service_tier_is_1_to_4"
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Endpoint(models.Model):
    """`POST /orders` of one service."""

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="endpoints")
    method = models.CharField(max_length=10)
    route = models.CharField(max_length=200)
    criticality = models.CharField(
        max_length=16,
        default="critical",
        choices=[
            ("critical_plus", "critical plus"),
            ("critical", "critical"),
            ("sheddable_plus", "sheddable plus"),
            ("sheddable", "sheddable"),
        ],
    )

    class Meta:
        ordering = ["route", "method"]
        constraints = [
            models.UniqueConstraint(
                fields=["service", "method", "route"], name="one_endpoint_per_method_and_route"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.route}"


class Dependency(models.Model):
    """An outbound edge of one service, to another service or an external name."""

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="dependencies")
    name = models.SlugField(max_length=63, help_text="as the policy and the metrics name it")
    target = models.ForeignKey(
        Service,
        on_delete=models.SET_NULL,
        related_name="callers",
        null=True,
        blank=True,
        help_text="empty when the dependency is external",
    )

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "dependencies"
        constraints = [
            models.UniqueConstraint(
                fields=["service", "name"], name="one_dependency_per_service_and_name"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.service} → {self.name}"


class Instance(models.Model):
    """One running process, seen through the config API. Its service may be unregistered."""

    environment = models.CharField(max_length=63)
    service_slug = models.CharField(max_length=63)
    instance_id = models.CharField(max_length=128)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["environment", "service_slug", "instance_id"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "service_slug", "instance_id"],
                name="one_row_per_instance",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.service_slug}/{self.instance_id}"

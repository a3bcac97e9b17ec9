"""Versions, overrides, canaries and publications of policies."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import F, Q

from controlplane.registry.models import Environment, Service


class PolicyVersion(models.Model):
    """An immutable, numbered policy of one service, or of the fleet default when it has none.

    The one with the highest number is in force; going back means publishing an older document
    again under a new number.
    """

    environment = models.ForeignKey(
        Environment, on_delete=models.PROTECT, related_name="policy_versions"
    )
    service = models.ForeignKey(
        Service, on_delete=models.PROTECT, related_name="versions", null=True, blank=True
    )
    number = models.PositiveIntegerField()
    document = models.JSONField(help_text="sparse: only what its author set")
    reason = models.TextField()
    author = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["service", "number"], name="one_version_per_service_and_number"
            ),
            models.UniqueConstraint(
                fields=["environment", "number"],
                condition=Q(service=None),
                name="one_fleet_default_per_environment_and_number",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.service or 'fleet default'} v{self.number}"


class Override(models.Model):
    """A patch on top of a version, for a limited time.

    It always ends: at `ends_at`, or earlier when someone reverts it. Several may be in force;
    they apply oldest first.
    """

    service = models.ForeignKey(Service, on_delete=models.PROTECT, related_name="overrides")
    patch = models.JSONField(help_text="RFC 7396 merge patch on the policy document")
    reason = models.TextField()
    opened_by = models.CharField(max_length=200)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(db_index=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["starts_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at")), name="override_ends_after_it_starts"
            ),
        ]
        indexes = [
            models.Index(
                fields=["service", "ends_at"],
                condition=Q(closed_at=None),
                name="open_overrides_by_service",
            ),
        ]

    def __str__(self) -> str:
        return f"override {self.pk} on {self.service} until {self.ends_at:%H:%M:%S}"


class Canary(models.Model):
    """A candidate for the next version of a service, served to a part of its instances first.

    It always ends: at `ends_at` by the clock, or earlier when someone promotes it or takes it
    back. While the row is open the canary cohort may be served, so whoever closes it publishes
    the end of that cohort in the same transaction.
    """

    PROMOTED, ENDED, EXPIRED = "promoted", "ended", "expired"

    service = models.ForeignKey(Service, on_delete=models.PROTECT, related_name="canaries")
    document = models.JSONField(help_text="sparse: the version it would become")
    ratio = models.FloatField(help_text="part of the instances that it reaches")
    salt = models.CharField(max_length=32, help_text="which instances come first")
    reason = models.TextField()
    author = models.CharField(max_length=200)
    started_at = models.DateTimeField()
    ends_at = models.DateTimeField(db_index=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=200, blank=True)
    outcome = models.CharField(max_length=16, blank=True, help_text="empty while it is open")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "canaries"
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("started_at")), name="canary_ends_after_it_starts"
            ),
            models.CheckConstraint(
                condition=Q(ratio__gt=0.0, ratio__lte=1.0), name="canary_reaches_some_instances"
            ),
            models.CheckConstraint(condition=~Q(salt=""), name="canary_has_a_salt"),
            models.CheckConstraint(
                condition=Q(closed_at=None, outcome="")
                | Q(closed_at__isnull=False, outcome__in=["promoted", "ended", "expired"]),
                name="canary_has_an_outcome_once_closed",
            ),
            models.UniqueConstraint(
                fields=["service"], condition=Q(closed_at=None), name="one_open_canary_per_service"
            ),
        ]

    def __str__(self) -> str:
        return f"canary {self.pk} on {self.service} until {self.ends_at:%H:%M:%S}"

    def is_in_force(self, moment: datetime) -> bool:
        """Say whether it applies at `moment`."""
        return self.closed_at is None and self.ends_at > moment


class SequenceCounter(models.Model):
    """The one row that hands out fleet-wide sequences.

    It is updated inside the publishing transaction and so stays locked until the commit:
    sequences become visible in the order they were handed out.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    value = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="there_is_one_sequence"),
        ]

    def __str__(self) -> str:
        return f"sequence {self.value}"


class Publication(models.Model):
    """What the config API serves for a service from this sequence on.

    `service_slug` is empty for the environment's fleet default, which services that nobody
    registered receive. `scheduled` holds the later effective policies, each with the time at
    which it takes over by the clock: `[{"at", "reason", "etag", "policy"}]`, soonest first.

    A publication to the cohort "canary" reaches the instances whose position under `salt` is
    below `ratio`; one with ratio 0 ends the canary. While one reaches anybody, it has a higher
    sequence than the newest publication to everybody else, who are the cohort "".
    """

    STABLE, CANARY = "", "canary"

    sequence = models.BigIntegerField(unique=True)
    environment = models.CharField(max_length=63)
    service_slug = models.CharField(max_length=63, blank=True)
    cohort = models.CharField(max_length=16, blank=True, default="")
    ratio = models.FloatField(null=True, blank=True, help_text="canary only: part of the instances")
    salt = models.CharField(max_length=32, blank=True, default="", help_text="canary only")
    version_number = models.PositiveIntegerField(help_text="0 when only the fleet default applies")
    etag = models.CharField(max_length=64, unique=True)
    policy = models.JSONField(help_text="the complete effective policy")
    scheduled = models.JSONField(default=list)
    cause = models.CharField(max_length=64, help_text="audit action that caused it")
    actor = models.CharField(max_length=200)
    reason = models.TextField()
    issued_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-sequence"]
        constraints = [
            models.CheckConstraint(
                condition=Q(cohort="", ratio=None, salt="")
                | Q(cohort="canary", ratio__isnull=False, ratio__gte=0.0, ratio__lte=1.0)
                & ~Q(salt=""),
                name="publication_has_ratio_and_salt_for_a_canary_alone",
            ),
        ]
        indexes = [
            models.Index(
                fields=["environment", "service_slug", "-sequence"],
                name="publications_by_service",
            ),
            models.Index(
                fields=["environment", "service_slug", "cohort", "-sequence"],
                name="publications_by_cohort",
            ),
        ]

    def __str__(self) -> str:
        cohort = f" ({self.cohort})" if self.cohort else ""
        return f"{self.environment}/{self.service_slug or '*'}{cohort} #{self.sequence}"

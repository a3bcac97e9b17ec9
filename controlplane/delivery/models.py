"""What each instance fetched, applied or rejected, and when."""

from __future__ import annotations

from django.db import models

from controlplane.registry.models import Instance


class InstanceReport(models.Model):
    """The newest acknowledgement of one instance."""

    instance = models.OneToOneField(Instance, on_delete=models.CASCADE, related_name="report")
    etag = models.CharField(max_length=128, blank=True, help_text="what it enforces now")
    sequence = models.BigIntegerField(null=True, blank=True, help_text="of that etag, when known")
    step = models.PositiveSmallIntegerField(default=0, help_text="0, or the scheduled step")
    state = models.CharField(
        max_length=16,
        choices=[("fetched", "fetched"), ("applied", "applied"), ("rejected", "rejected")],
    )
    rejected_etag = models.CharField(max_length=128, blank=True)
    reason = models.CharField(max_length=500, blank=True, help_text="why it rejected")
    fetched_at = models.DateTimeField(null=True, blank=True)
    applied_at = models.DateTimeField(null=True, blank=True)
    sdk = models.CharField(max_length=120, blank=True, help_text="User-Agent of the client")

    def __str__(self) -> str:
        return f"{self.instance} {self.state} {self.etag}"


class Acknowledgement(models.Model):
    """One instance's first answer to one publication: the history behind convergence figures."""

    environment = models.CharField(max_length=63)
    service_slug = models.CharField(max_length=63)
    sequence = models.BigIntegerField()
    instance_id = models.CharField(max_length=128)
    outcome = models.CharField(
        max_length=16, choices=[("applied", "applied"), ("rejected", "rejected")]
    )
    reason = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "service_slug", "sequence", "instance_id"],
                name="one_acknowledgement_per_instance_and_publication",
            ),
        ]
        indexes = [
            models.Index(fields=["sequence", "outcome"], name="acknowledgements_by_sequence"),
        ]

    def __str__(self) -> str:
        return f"{self.instance_id} {self.outcome} #{self.sequence}"

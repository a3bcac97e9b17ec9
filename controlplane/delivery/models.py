"""What each instance fetched, applied or rejected, and when."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

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
    rejected_at = models.DateTimeField(
        null=True, blank=True, help_text="since when it rejects that etag"
    )
    reason = models.CharField(max_length=500, blank=True, help_text="why it rejected")
    fetched_at = models.DateTimeField(null=True, blank=True)
    applied_at = models.DateTimeField(null=True, blank=True)
    sdk = models.CharField(max_length=120, blank=True, help_text="User-Agent of the client")

    class Meta:
        indexes = [
            # Nearly always empty, and asked for by every page.
            models.Index(
                fields=["instance"], condition=Q(state="rejected"), name="rejecting_instances"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instance} {self.state} {self.etag}"


class Acknowledgement(models.Model):
    """What one instance first did with one publication: the history behind convergence figures.

    At most three rows for an instance and a publication: when it was first sent it (`fetched`),
    when it first said that it enforces it (`applied`), and that it cannot (`rejected`). Rows are
    only ever added, so nodes that write at the same time cannot undo each other.
    """

    environment = models.CharField(max_length=63)
    service_slug = models.CharField(max_length=63)
    sequence = models.BigIntegerField()
    instance_id = models.CharField(max_length=128)
    outcome = models.CharField(
        max_length=16,
        choices=[("fetched", "fetched"), ("applied", "applied"), ("rejected", "rejected")],
    )
    reason = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "service_slug", "sequence", "instance_id", "outcome"],
                name="one_acknowledgement_per_instance_publication_and_outcome",
            ),
        ]
        indexes = [
            models.Index(fields=["sequence", "outcome"], name="acknowledgements_by_sequence"),
        ]

    def __str__(self) -> str:
        return f"{self.instance_id} {self.outcome} #{self.sequence}"


class SigningKey(models.Model):
    """A key that signs what is delivered: announced, then active, then retired, or withdrawn.

    The private part is sealed with a secret that is not in the database. A retired key stays
    known and endorses younger keys; a withdrawn one is compromised: it loses its private part,
    and no client is told of it any more.
    """

    algorithm = models.CharField(max_length=16, default="EdDSA", editable=False)
    kid = models.CharField(max_length=43, unique=True, help_text="RFC 7638 thumbprint")
    x = models.CharField(max_length=43, help_text="public key, base64url")
    sealed_private = models.CharField(max_length=200, blank=True)
    endorsements = models.JSONField(default=list, help_text="by older keys: kid and signature")
    created_at = models.DateTimeField()
    active_from = models.DateTimeField(help_text="signs from then on")
    retired_at = models.DateTimeField(null=True, blank=True, help_text="a younger key signs then")
    withdrawn_at = models.DateTimeField(null=True, blank=True, help_text="compromised since")

    class Meta:
        ordering = ["id"]
        constraints = [
            # The first key is made by whichever process starts first: this decides the race.
            models.UniqueConstraint(
                fields=["algorithm"],
                condition=Q(retired_at=None, withdrawn_at=None),
                name="one_newest_signing_key",
            ),
            models.CheckConstraint(
                condition=Q(retired_at=None) | Q(retired_at__gte=F("active_from")),
                name="a_signing_key_retires_after_it_was_active",
            ),
            models.CheckConstraint(
                condition=(Q(withdrawn_at=None) & ~Q(sealed_private=""))
                | Q(withdrawn_at__isnull=False, sealed_private=""),
                name="only_a_withdrawn_signing_key_has_no_private_part",
            ),
        ]

    def __str__(self) -> str:
        return f"signing key {self.kid}"

"""Teams, memberships, tokens and the append-only audit log."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class Team(models.Model):
    """Who owns services, and whose members may change them."""

    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=120)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Membership(models.Model):
    """A role of one user on one team, or on every team when `team` is empty."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships"
    )
    team = models.ForeignKey(
        Team, on_delete=models.CASCADE, related_name="memberships", null=True, blank=True
    )
    role = models.CharField(
        max_length=16,
        choices=[("viewer", "viewer"), ("operator", "operator"), ("admin", "admin")],
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "team"], name="one_role_per_user_and_team"),
            models.UniqueConstraint(
                fields=["user"], condition=Q(team=None), name="one_fleet_wide_role_per_user"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.team or 'every team'}"


class ServiceToken(models.Model):
    """A bearer token: of a service for the config API, or of a user for the operator API.

    Only the SHA-256 of the token is stored; the text is shown once, when it is made.
    """

    kind = models.CharField(
        max_length=16, choices=[("service", "service"), ("operator", "operator")]
    )
    token_hash = models.CharField(max_length=64, unique=True)
    label = models.CharField(max_length=120)
    environment = models.CharField(max_length=63, blank=True, help_text="service tokens only")
    service = models.CharField(max_length=63, blank=True, help_text="service tokens only")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="tokens",
        null=True,
        blank=True,
        help_text="operator tokens only: whose roles it has",
    )
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=200)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    successor = models.OneToOneField(
        "self",
        on_delete=models.SET_NULL,
        related_name="predecessor",
        null=True,
        blank=True,
        help_text="the token that replaces this one, which ends soon",
    )

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(successor=None) | Q(expires_at__isnull=False),
                name="a_rotated_token_expires",
            ),
            models.CheckConstraint(
                condition=(Q(kind="service", user=None) & ~Q(environment="") & ~Q(service=""))
                | Q(kind="operator", user__isnull=False, environment="", service=""),
                name="a_token_belongs_to_a_service_or_a_user",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} token {self.label}"


class AuditHead(models.Model):
    """The one row that holds the newest audit hash: locking it keeps the chain from forking."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.BigIntegerField(default=0)
    entry_hash = models.CharField(max_length=64, default="")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="the_audit_log_has_one_head"),
        ]

    def __str__(self) -> str:
        return f"audit head {self.number}"


class AuditEntry(models.Model):
    """Who did what, when and why. Append-only; each entry carries the hash of the one before."""

    number = models.BigIntegerField(unique=True, help_text="1, 2, 3 ... without gaps")
    at = models.DateTimeField(db_index=True)
    actor = models.CharField(max_length=200)
    actor_kind = models.CharField(max_length=16)
    action = models.CharField(max_length=64, help_text="noun.verb-in-past, such as override.opened")
    subject = models.CharField(max_length=200)
    environment = models.CharField(max_length=63, blank=True)
    service = models.CharField(max_length=63, blank=True)
    reason = models.TextField(blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    data = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64, blank=True)
    entry_hash = models.CharField(max_length=64, unique=True)

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ["-number"]
        indexes = [
            models.Index(fields=["environment", "service", "-number"], name="audit_by_service"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.action} {self.subject} by {self.actor}"

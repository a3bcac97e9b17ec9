"""Admin pages of policies: to look only. Policies change through their services."""

from __future__ import annotations

from django.contrib import admin

from controlplane.access.admin import ReadOnlyAdmin
from controlplane.policies.models import Canary, Override, PolicyVersion, Publication


@admin.register(PolicyVersion)
class PolicyVersionAdmin(ReadOnlyAdmin):
    noun = "version"
    list_display = ("__str__", "environment", "author", "created_at", "reason")
    list_filter = ("environment",)
    list_select_related = ("service", "environment")


@admin.register(Override)
class OverrideAdmin(ReadOnlyAdmin):
    noun = "override"
    list_display = ("id", "service", "opened_by", "starts_at", "ends_at", "closed_at", "reason")
    list_filter = ("service__environment",)
    list_select_related = ("service",)


@admin.register(Canary)
class CanaryAdmin(ReadOnlyAdmin):
    noun = "canary"
    list_display = ("id", "service", "ratio", "author", "started_at", "ends_at", "outcome")
    list_filter = ("service__environment", "outcome")
    list_select_related = ("service",)


@admin.register(Publication)
class PublicationAdmin(ReadOnlyAdmin):
    noun = "publication"
    list_display = (
        "sequence",
        "environment",
        "service_slug",
        "cohort",
        "cause",
        "actor",
        "issued_at",
    )
    list_filter = ("environment", "cause")

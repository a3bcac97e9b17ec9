"""Admin pages of the registry. Every change is checked by role and audited."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models
from django.forms import ModelForm
from django.http import HttpRequest

from controlplane.access.admin import AuditedAdmin, ReadOnlyAdmin
from controlplane.kernel.clock import utc_now
from controlplane.registry.models import Dependency, Endpoint, Environment, Instance, Service


@admin.register(Environment)
class EnvironmentAdmin(AuditedAdmin):
    noun = "environment"
    list_display = ("slug", "name")

    def place_of(self, obj: Any) -> tuple[str, str]:
        return (obj.slug, "")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Publications and tokens name an environment by its slug: it never changes.
        return ("slug",) if obj is not None else ()


@admin.register(Service)
class ServiceAdmin(AuditedAdmin):
    noun = "service"
    list_display = ("slug", "environment", "team", "tier", "dialect")
    list_filter = ("environment", "team", "tier")
    list_select_related = ("environment", "team")
    search_fields = ("slug", "description")
    exclude = ("registered_at",)
    formfield_overrides = {models.URLField: {"assume_scheme": "https"}}

    def team_of(self, obj: Any) -> str | None:
        return str(obj.team.slug)

    def place_of(self, obj: Any) -> tuple[str, str]:
        return (obj.environment.slug, obj.slug)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Publications and tokens name a service by its slug: it never changes.
        return ("environment", "slug") if obj is not None else ()

    def save_model(
        self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool
    ) -> None:
        if not change:
            obj.registered_at = utc_now()
        super().save_model(request, obj, form, change)


class _OfServiceAdmin(AuditedAdmin):
    """What belongs to one service, and so to its team."""

    def team_of(self, obj: Any) -> str | None:
        return str(obj.service.team.slug)

    def place_of(self, obj: Any) -> tuple[str, str]:
        return (obj.service.environment.slug, obj.service.slug)


@admin.register(Endpoint)
class EndpointAdmin(_OfServiceAdmin):
    noun = "endpoint"
    list_display = ("__str__", "service", "criticality")
    list_filter = ("service__environment", "criticality")
    list_select_related = ("service",)
    search_fields = ("route", "service__slug")


@admin.register(Dependency)
class DependencyAdmin(_OfServiceAdmin):
    noun = "dependency"
    list_display = ("name", "service", "target")
    list_filter = ("service__environment",)
    list_select_related = ("service", "target")
    search_fields = ("name", "service__slug")


@admin.register(Instance)
class InstanceAdmin(ReadOnlyAdmin):
    noun = "instance"
    list_display = ("instance_id", "service_slug", "environment", "first_seen_at", "last_seen_at")
    list_filter = ("environment", "service_slug")

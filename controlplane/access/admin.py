"""Admin pages of access, and the audited model admin that every admin page of ours builds on."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.forms import ModelForm, model_to_dict
from django.http import HttpRequest, HttpResponse

from controlplane.access.http.actors import actor_of
from controlplane.access.models import AuditEntry, Membership, ServiceToken, Team
from controlplane.access.services import audit
from controlplane.access.services.memberships import grant_role, revoke_role
from controlplane.access.services.tokens import revoke_token
from controlplane.kernel.clock import utc_now

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _UserAdmin = UserAdmin[User]
else:
    _ModelAdmin = admin.ModelAdmin  # generic for the type checker only
    _UserAdmin = UserAdmin

_NEVER_SHOWN = frozenset({"password", "token_hash"})


class AuditedAdmin(_ModelAdmin):
    """A model admin whose every change is permission-checked by role and written to the audit log.

    Django's own per-model permissions are not used: roles decide, here as everywhere.
    """

    change_action = "registry.change"
    noun = "row"

    def team_of(self, obj: Any) -> str | None:
        """Return the team that owns `obj`; None for what belongs to the whole fleet."""
        return None

    def place_of(self, obj: Any) -> tuple[str, str]:
        """Return the environment and service that `obj` belongs to, for the audit entry."""
        return ("", "")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return actor_of(request).may_somewhere("admin.read")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return actor_of(request).may(self.change_action, None)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        team = self.team_of(obj) if obj is not None else None
        return actor_of(request).may(self.change_action, team)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def save_model(
        self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool
    ) -> None:
        # Of the row as it would become: nobody moves one to a team they may not change.
        if not self.has_change_permission(request, obj):
            raise PermissionDenied
        # `_record` runs in the same transaction: an unaudited change cannot stay.
        with transaction.atomic():
            before = self.get_queryset(request).get(pk=obj.pk) if change else None
            super().save_model(request, obj, form, change)
            self._record(
                request,
                "changed" if change else "registered",
                obj,
                {
                    name: {
                        "before": _shown(name, before) if before is not None else None,
                        "after": _shown(name, obj),
                    }
                    for name in form.changed_data
                    if hasattr(obj, name)
                },
            )

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            values = {
                name: {"before": _shown(name, obj), "after": None} for name in model_to_dict(obj)
            }
            place, text = self.place_of(obj), str(obj)
            super().delete_model(request, obj)
            self._write(request, "removed", text, place, values)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        with transaction.atomic():
            for obj in queryset:
                self.delete_model(request, obj)

    def _record(self, request: HttpRequest, verb: str, obj: Any, changes: dict[str, Any]) -> None:
        self._write(request, verb, str(obj), self.place_of(obj), changes)

    def _write(
        self,
        request: HttpRequest,
        verb: str,
        text: str,
        place: tuple[str, str],
        changes: dict[str, Any],
    ) -> None:
        audit.record(
            actor=actor_of(request),
            action=f"{self.noun}.{verb}",
            subject=f"{self.noun}:{text}"[:200],
            at=utc_now(),
            environment=place[0],
            service=place[1],
            reason="admin page",
            data={"changes": changes},
        )


class ReadOnlyAdmin(AuditedAdmin):
    """An admin page that shows rows and changes none."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Team)
class TeamAdmin(AuditedAdmin):
    noun = "team"
    list_display = ("slug", "name")
    search_fields = ("slug", "name")


@admin.register(Membership)
class MembershipAdmin(AuditedAdmin):
    noun = "membership"
    change_action = "role.grant"
    list_display = ("user", "team", "role")
    list_filter = ("role", "team")
    list_select_related = ("user", "team")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Another user or team is another membership: remove this one and add that one.
        return ("user", "team") if obj is not None else ()

    def save_model(
        self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool
    ) -> None:
        granted = grant_role(
            actor=actor_of(request),
            user=obj.user,
            role=obj.role,
            team=obj.team,
            reason="admin page",
            now=utc_now(),
        )
        obj.pk = granted.pk

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        revoke_role(
            actor=actor_of(request),
            user=obj.user,
            team=obj.team,
            reason="admin page",
            now=utc_now(),
        )


@admin.register(ServiceToken)
class ServiceTokenAdmin(ReadOnlyAdmin):
    """Tokens are made on the command line, which shows their text once; here they are revoked."""

    noun = "token"
    list_display = (
        "label",
        "kind",
        "environment",
        "service",
        "user",
        "created_at",
        "expires_at",
        "revoked_at",
    )
    list_filter = ("kind", "environment")
    list_select_related = ("user",)
    exclude = ("token_hash",)
    actions = ("revoke",)

    @admin.action(description="Revoke the selected tokens")
    def revoke(self, request: HttpRequest, queryset: models.QuerySet[ServiceToken]) -> None:
        live: Iterable[ServiceToken] = queryset.filter(revoked_at=None).select_related("user")
        with transaction.atomic():
            for token in live:
                revoke_token(actor=actor_of(request), token=token, now=utc_now())


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    noun = "audit"
    list_display = ("number", "at", "actor", "action", "subject", "environment", "service")
    list_filter = ("action", "environment")
    search_fields = ("actor", "subject", "service", "request_id")


admin.site.unregister(Group)
admin.site.unregister(User)


@admin.register(User)
class AuditedUserAdmin(AuditedAdmin, _UserAdmin):
    """Users and their passwords. Roles are memberships, so groups and permissions are not shown."""

    noun = "user"
    change_action = "role.grant"
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Access", {"fields": ("is_active", "is_staff")}),
    )
    list_filter = ("is_active", "is_staff")
    filter_horizontal = ()

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        with transaction.atomic():
            response = super().user_change_password(request, id, form_url)
            if response.status_code == HTTPStatus.FOUND:
                user = self.get_object(request, id)
                self._record(request, "changed", user, {"password": {"after": "set"}})
        return response


def _shown(name: str, obj: Any) -> object:
    if name in _NEVER_SHOWN:
        return "not shown"
    value = getattr(obj, name)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)

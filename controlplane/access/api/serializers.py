"""Shapes of access over HTTP."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from controlplane.access.domain.tokens import TokenStatus, token_status
from controlplane.access.http.fields import BoundedSecondsField, InstantField, TextField
from controlplane.access.http.parsing import StrictSerializer
from controlplane.access.models import ServiceToken
from controlplane.access.services.tokens import DEFAULT_GRACE, MAX_GRACE, MIN_GRACE


class GrantOut(serializers.Serializer[Any]):
    """A role on one team; on every team when `team` is null."""

    role = serializers.CharField()
    team = serializers.CharField(allow_null=True)


class ActorOut(serializers.Serializer[Any]):
    """Who asks, and what they may do."""

    name = serializers.CharField()
    kind = serializers.CharField()
    grants = GrantOut(many=True)


class FaultOut(serializers.Serializer[Any]):
    """One thing wrong with what was sent."""

    path = serializers.CharField()
    message = serializers.CharField()


class ProblemOut(serializers.Serializer[Any]):
    """An error, as RFC 9457 describes it."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    field = serializers.CharField(required=False)
    problems = FaultOut(many=True, required=False)
    request_id = serializers.CharField(required=False)


class ServiceTokenOut(serializers.Serializer[Any]):
    """A token with which one service reads its policy; never its text."""

    id = serializers.IntegerField()
    environment = serializers.CharField()
    service = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # DRF has a `label` too
    status = serializers.SerializerMethodField(help_text="rotated ones work until they expire")
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    successor = serializers.IntegerField(
        source="successor_id", allow_null=True, help_text="the token that replaces it"
    )

    @extend_schema_field(serializers.ChoiceField(choices=[status.value for status in TokenStatus]))
    def get_status(self, token: ServiceToken) -> str:
        """Return where the token stands at `now` of the context."""
        return token_status(
            revoked_at=token.revoked_at,
            expires_at=token.expires_at,
            is_rotated=token.successor_id is not None,
            now=self.context["now"],
        ).value


class MadeServiceTokenOut(ServiceTokenOut):
    """A token that was just made, with its text."""

    token = serializers.CharField(
        allow_null=True,
        help_text="shown once, and stored nowhere: null when the request is repeated",
    )


class ServiceTokensOut(serializers.Serializer[Any]):
    """One page of service tokens, newest first."""

    service_tokens = ServiceTokenOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class CreateServiceTokenIn(StrictSerializer):
    """For whom a token is."""

    environment = TextField()
    service = TextField(help_text="need not be registered yet")
    label = TextField(help_text="1 to 80 characters: where it is used")  # type: ignore[assignment]  # DRF has a `label` too
    expires_at = InstantField(required=False, help_text="RFC 3339; never when left out")


class RotateServiceTokenIn(StrictSerializer):
    """For how long both tokens work."""

    grace_s = BoundedSecondsField(
        min_s=MIN_GRACE.total_seconds(),
        max_s=MAX_GRACE.total_seconds(),
        required=False,
        help_text=f"seconds; {DEFAULT_GRACE.total_seconds():.0f} when left out",
    )

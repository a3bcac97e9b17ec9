"""Shapes of policies over HTTP. They hold no meaning: services validate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from controlplane.access.http.fields import TextField
from controlplane.access.http.parsing import StrictSerializer
from controlplane.policies.domain.messages import kind_of

LONGEST_S = 7 * 86400.0  # longer than any environment allows; the service knows what it does


class DocumentField(serializers.JSONField):
    """A policy document or patch as it came: the policy domain refuses what is wrong, by path."""

    default_error_messages = {
        "required": "is missing: expected an object, the policy",
        "null": "expected an object, the policy, not null",
    }

    def to_internal_value(self, data: Any) -> Any:
        """Return `data` untouched, an infinity within it too."""
        if not isinstance(data, Mapping):
            raise serializers.ValidationError(f"a policy is an object, not {kind_of(data)}")
        return data


class SecondsField(serializers.FloatField):
    """A duration in seconds: a JSON number, not a text or a boolean that looks like one."""

    default_error_messages = {
        "required": "is missing: expected a number of seconds",
        "null": "expected a number of seconds, not null",
        "invalid": "expected a finite number of seconds",
    }

    def to_internal_value(self, data: Any) -> float:
        """Return the number, none further out than a week: what is right, the service says."""
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise serializers.ValidationError("expected a number of seconds")
        seconds = float(super().to_internal_value(data))
        return min(max(seconds, 0.0), LONGEST_S)


class RatioField(serializers.FloatField):
    """A part of a whole: a JSON number, not a percentage written as text."""

    default_error_messages = {
        "required": "is missing: expected a ratio, such as 0.1",
        "null": "expected a ratio, such as 0.1, not null",
        "invalid": "expected a finite ratio, such as 0.1",
    }

    def to_internal_value(self, data: Any) -> float:
        """Return the number, none further out than -1 or 2: what is right, the service says."""
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise serializers.ValidationError("expected a ratio, such as 0.1")
        return float(super().to_internal_value(min(max(data, -1), 2)))


class ReasonIn(StrictSerializer):
    """Why, for whoever reads the history at night."""

    reason = TextField(help_text="1 to 500 characters")


class PublishIn(ReasonIn):
    """A sparse policy document to publish."""

    document = DocumentField(help_text="see /api/v1/policy-schema")


class OpenOverrideIn(ReasonIn):
    """A patch for a limited time."""

    patch = DocumentField(help_text="RFC 7396 merge patch; null takes a value away")
    lasts_s = SecondsField(required=False, help_text="seconds; an hour when left out")


class ExtendOverrideIn(ReasonIn):
    """How much later an override should end."""

    by_s = SecondsField(help_text="seconds")


class WidenCanaryIn(ReasonIn):
    """The part of the instances that a canary should reach."""

    ratio = RatioField(help_text="0 to 1, more than the present one")


class StartCanaryIn(ReasonIn):
    """A candidate version for a part of the instances, for a limited time."""

    document = DocumentField(help_text="sparse, as of a version: see /api/v1/policy-schema")
    ratio = RatioField(help_text="0 to 1: the part of the instances that it reaches")
    lasts_s = SecondsField(required=False, help_text="seconds; an hour when left out")


class BeatenOut(serializers.Serializer[Any]):
    """What a lower layer said, and was outranked."""

    layer = serializers.CharField()
    value = serializers.JSONField()


class LeafOut(serializers.Serializer[Any]):
    """One value of the effective policy, and where it comes from."""

    path = serializers.CharField()
    value = serializers.JSONField()
    layer = serializers.CharField()
    kind = serializers.CharField()
    beat = BeatenOut(many=True)


class LayerOut(serializers.Serializer[Any]):
    """One layer, lowest first."""

    kind = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # DRF has a `label` too
    document = serializers.JSONField()


class PolicyOut(serializers.Serializer[Any]):
    """The effective policy of a service, and where each value comes from."""

    environment = serializers.CharField()
    service = serializers.CharField()
    version = serializers.IntegerField(help_text="0 when only the fleet default applies")
    sequence = serializers.IntegerField(allow_null=True, help_text="of the newest publication")
    policy = serializers.JSONField()
    layers = LayerOut(many=True)
    fields = LeafOut(many=True)  # type: ignore[assignment]  # DRF's name for declared fields


class VersionOut(serializers.Serializer[Any]):
    """A version of a service, or a fleet default when `service` is null."""

    environment = serializers.CharField(source="environment.slug")
    service = serializers.CharField(source="service.slug", allow_null=True, default=None)
    number = serializers.IntegerField()
    document = serializers.JSONField()
    reason = serializers.CharField()
    author = serializers.CharField()
    created_at = serializers.DateTimeField()


class VersionsOut(serializers.Serializer[Any]):
    """One page of versions, newest first."""

    versions = VersionOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class FleetDefaultOut(serializers.Serializer[Any]):
    """The fleet default in force; null when nobody published one."""

    fleet_default = VersionOut(allow_null=True)


class OverrideOut(serializers.Serializer[Any]):
    """An override, in force or not."""

    id = serializers.IntegerField()
    service = serializers.CharField(source="service.slug")
    patch = serializers.JSONField()
    reason = serializers.CharField()
    opened_by = serializers.CharField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    closed_by = serializers.CharField()
    sequence = serializers.SerializerMethodField(help_text="of the newest publication it is in")

    def get_sequence(self, _override: object) -> int | None:
        """Return the sequence that the view looked up."""
        sequence = self.context.get("sequence")
        return None if sequence is None else int(sequence)


class CanaryOut(serializers.Serializer[Any]):
    """A canary, in force or not."""

    id = serializers.IntegerField()
    service = serializers.CharField(source="service.slug")
    document = serializers.JSONField()
    ratio = serializers.FloatField(help_text="0 to 1: the part of the instances that it reaches")
    reason = serializers.CharField()
    author = serializers.CharField()
    started_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    closed_by = serializers.CharField()
    outcome = serializers.CharField(help_text="promoted, ended or expired; empty while open")
    sequence = serializers.SerializerMethodField(
        help_text="of the newest publication to the instances of the canary"
    )

    def get_sequence(self, _canary: object) -> int | None:
        """Return the sequence that the view looked up."""
        sequence = self.context.get("sequence")
        return None if sequence is None else int(sequence)


class CurrentCanaryOut(serializers.Serializer[Any]):
    """The canary in force on a service; null when there is none."""

    canary = CanaryOut(allow_null=True)


class OverrideRowOut(serializers.Serializer[Any]):
    """An override in force."""

    id = serializers.IntegerField()
    service = serializers.CharField()
    patch = serializers.JSONField()
    reason = serializers.CharField()
    opened_by = serializers.CharField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()


class OverridesOut(serializers.Serializer[Any]):
    """One page of overrides in force, oldest first."""

    overrides = OverrideRowOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class FieldChangeOut(serializers.Serializer[Any]):
    """One field before and after; null where it is absent."""

    path = serializers.CharField()
    before = serializers.JSONField()
    after = serializers.JSONField()
    kind = serializers.CharField(help_text="added, removed or changed")


class ChangeOut(serializers.Serializer[Any]):
    """Who changed what, why and when, and what takes it back."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField()
    action = serializers.CharField()
    environment = serializers.CharField()
    service = serializers.CharField(allow_blank=True)
    reason = serializers.CharField()
    changes = FieldChangeOut(many=True)
    sequence = serializers.IntegerField(allow_null=True)
    override_id = serializers.IntegerField(allow_null=True)
    canary_id = serializers.IntegerField(allow_null=True)
    ratio = serializers.FloatField(allow_null=True, help_text="of a canary, after the change")
    version_number = serializers.IntegerField(allow_null=True)
    undo = serializers.CharField(allow_null=True, help_text="revert, rollback, end or null")
    ends_at = serializers.DateTimeField(allow_null=True)


class ChangesOut(serializers.Serializer[Any]):
    """One page of changes, newest first."""

    changes = ChangeOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)

"""Shapes of delivery over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from controlplane.access.http.fields import BoundedSecondsField
from controlplane.delivery.domain.convergence import Phase
from controlplane.delivery.domain.drift import DriftKind
from controlplane.delivery.domain.progress import Progress
from controlplane.delivery.services.signing_keys import DEFAULT_LEAD, MAX_LEAD, MIN_LEAD
from controlplane.policies.api.serializers import ReasonIn


class InstanceOut(serializers.Serializer[Any]):
    """One instance, and which publication it enforces."""

    service = serializers.CharField()
    instance_id = serializers.CharField()
    sequence = serializers.IntegerField(allow_null=True)
    etag = serializers.CharField()
    state = serializers.CharField(help_text="fetched, applied or rejected")
    reason = serializers.CharField(help_text="why it rejected")
    first_seen_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    is_live = serializers.BooleanField()
    is_current = serializers.BooleanField()
    sdk = serializers.CharField()


class InstancesOut(serializers.Serializer[Any]):
    """One page of instances, by service and instance."""

    instances = InstanceOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class RejectedOut(serializers.Serializer[Any]):
    """An instance that could not apply the publication, and why."""

    instance_id = serializers.CharField()
    reason = serializers.CharField()


class LaggardOut(serializers.Serializer[Any]):
    """One of the slowest instances: who is still waited for comes first."""

    instance_id = serializers.CharField()
    late_s = serializers.FloatField(help_text="until it applied, or until now")
    has_applied = serializers.BooleanField()


class PropagationOut(serializers.Serializer[Any]):
    """Seconds from the publication, over the instances that lived then."""

    count = serializers.IntegerField()
    first_s = serializers.FloatField(allow_null=True)
    p50_s = serializers.FloatField(allow_null=True)
    p95_s = serializers.FloatField(allow_null=True)
    p99_s = serializers.FloatField(allow_null=True)
    last_s = serializers.FloatField(allow_null=True)


class ConvergenceOut(serializers.Serializer[Any]):
    """How far one publication has spread. Times are seconds since it was published."""

    sequence = serializers.IntegerField()
    published_at = serializers.DateTimeField()
    live = serializers.IntegerField(help_text="instances that poll now and that it is meant for")
    fetched = serializers.IntegerField(help_text="of those, how many were sent it, or a later one")
    applied = serializers.IntegerField(help_text="of those, how many enforce it, or a later one")
    rejected = RejectedOut(many=True)
    silent = serializers.ListField(
        child=serializers.CharField(), help_text="instances that poll and have not answered yet"
    )
    laggards = LaggardOut(many=True)
    first_s = serializers.FloatField(allow_null=True)
    p50_s = serializers.FloatField(allow_null=True)
    p95_s = serializers.FloatField(allow_null=True)
    p99_s = serializers.FloatField(allow_null=True)
    last_s = serializers.FloatField(allow_null=True)
    fetch = PropagationOut(help_text="until an instance was sent it")
    apply = PropagationOut(help_text="until an instance said that it enforces it")
    is_complete = serializers.BooleanField()


class PublicationOut(serializers.Serializer[Any]):
    """One publication and how far it has spread."""

    sequence = serializers.IntegerField()
    service = serializers.CharField()
    cohort = serializers.CharField(
        allow_blank=True,
        help_text="empty for everybody, canary for a first part of all",
    )
    version_number = serializers.IntegerField(help_text="0 when only the fleet default applies")
    cause = serializers.CharField(help_text="audit action that caused it")
    actor = serializers.CharField()
    reason = serializers.CharField()
    issued_at = serializers.DateTimeField()
    superseded_by = serializers.IntegerField(
        allow_null=True, help_text="the newest publication of the same cohort, when it is another"
    )
    phase = serializers.ChoiceField(choices=[phase.value for phase in Phase])
    convergence = ConvergenceOut()


class PublicationsOut(serializers.Serializer[Any]):
    """One page of publications, newest first."""

    publications = PublicationOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class InstanceProgressOut(serializers.Serializer[Any]):
    """What one instance did with one publication. Seconds count from the publication."""

    instance_id = serializers.CharField()
    progress = serializers.ChoiceField(choices=[progress.value for progress in Progress])
    fetched_at = serializers.DateTimeField(allow_null=True)
    applied_at = serializers.DateTimeField(allow_null=True)
    rejected_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField(allow_blank=True, help_text="why it rejected")
    fetch_s = serializers.FloatField(allow_null=True)
    apply_s = serializers.FloatField(allow_null=True)
    reject_s = serializers.FloatField(allow_null=True)
    enforces = serializers.IntegerField(
        allow_null=True, help_text="the sequence it enforces now, when known"
    )
    is_live = serializers.BooleanField()
    last_seen_at = serializers.DateTimeField(
        allow_null=True, help_text="null when the instance was forgotten since"
    )


class InstancesProgressOut(serializers.Serializer[Any]):
    """One page of instances, by name."""

    instances = InstanceProgressOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class DriftOut(serializers.Serializer[Any]):
    """An instance that enforces something other than it should, or does not say what."""

    service = serializers.CharField()
    instance_id = serializers.CharField()
    kind = serializers.ChoiceField(choices=[kind.value for kind in DriftKind])
    expected = serializers.IntegerField(help_text="the sequence it should enforce")
    enforces = serializers.IntegerField(allow_null=True, help_text="the sequence it does enforce")
    etag = serializers.CharField(allow_blank=True, help_text="what it says it enforces")
    reason = serializers.CharField(allow_blank=True, help_text="why it rejected")
    since = serializers.DateTimeField()
    late_s = serializers.FloatField()
    last_seen_at = serializers.DateTimeField()


class DriftsOut(serializers.Serializer[Any]):
    """One page of drifting and silent instances by service and name, and the fleet's totals."""

    live = serializers.IntegerField()
    current = serializers.IntegerField(help_text="live instances that enforce what they should")
    drifting = serializers.IntegerField()
    silent = serializers.IntegerField(help_text="instances that stopped asking a short while ago")
    instances = DriftOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class SigningKeyOut(serializers.Serializer[Any]):
    """A public key that signatures are checked with."""

    kid = serializers.CharField(help_text="RFC 7638 thumbprint")
    x = serializers.CharField(help_text="the Ed25519 public key, base64url")
    status = serializers.ChoiceField(choices=["next", "active", "retired", "withdrawn"])
    created_at = serializers.DateTimeField()
    active_from = serializers.DateTimeField(help_text="signs from then on")
    retired_at = serializers.DateTimeField(allow_null=True, help_text="a younger key signs then")
    withdrawn_at = serializers.DateTimeField(allow_null=True)
    endorsed_by = serializers.ListField(
        child=serializers.CharField(), help_text="older keys that vouch for it, by kid"
    )


class SigningKeysOut(serializers.Serializer[Any]):
    """One page of signing keys, oldest first."""

    signing_keys = SigningKeyOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class RotateSigningKeyIn(ReasonIn):
    """From when on the next key signs."""

    lead_s = BoundedSecondsField(
        min_s=MIN_LEAD.total_seconds(),
        max_s=MAX_LEAD.total_seconds(),
        required=False,
        help_text=f"seconds from now; {DEFAULT_LEAD.total_seconds():.0f} when left out",
    )


class WithdrawalOut(serializers.Serializer[Any]):
    """What a withdrawal did, and which clients have to be touched."""

    withdrawn = SigningKeyOut()
    active = SigningKeyOut(help_text="signs from now on")
    consequence = serializers.CharField()

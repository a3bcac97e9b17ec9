"""Shapes of delivery over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


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


class ConvergenceOut(serializers.Serializer[Any]):
    """How far one publication has spread. Times are seconds since it was published."""

    sequence = serializers.IntegerField()
    published_at = serializers.DateTimeField()
    live = serializers.IntegerField()
    applied = serializers.IntegerField()
    rejected = RejectedOut(many=True)
    silent = serializers.ListField(child=serializers.CharField())
    first_s = serializers.FloatField(allow_null=True)
    p50_s = serializers.FloatField(allow_null=True)
    p95_s = serializers.FloatField(allow_null=True)
    p99_s = serializers.FloatField(allow_null=True)
    last_s = serializers.FloatField(allow_null=True)
    is_complete = serializers.BooleanField()

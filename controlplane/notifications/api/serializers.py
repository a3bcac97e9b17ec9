"""Shapes of alerts over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class NoticeOut(serializers.Serializer[Any]):
    """What one channel has been told of an alert."""

    channel = serializers.CharField(help_text="alertmanager or webhook")
    told = serializers.CharField(allow_blank=True, help_text="firing, resolved, or empty")
    told_at = serializers.DateTimeField(allow_null=True)
    attempts = serializers.IntegerField(help_text="that failed since the last success")
    next_at = serializers.DateTimeField(allow_null=True)
    last_error = serializers.CharField(allow_blank=True)


class AlertOut(serializers.Serializer[Any]):
    """One alert; it fires while `resolved_at` is null."""

    id = serializers.IntegerField()
    labels = serializers.DictField(child=serializers.CharField())
    annotations = serializers.DictField(child=serializers.CharField())
    url = serializers.CharField(allow_blank=True)
    starts_at = serializers.DateTimeField()
    resolved_at = serializers.DateTimeField(allow_null=True)
    notices = NoticeOut(many=True, source="notices.all")


class AlertsOut(serializers.Serializer[Any]):
    """One page of alerts, newest first."""

    alerts = AlertOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)

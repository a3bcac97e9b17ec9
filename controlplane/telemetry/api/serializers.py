"""Shapes of telemetry over HTTP. Null is what was not measured; it is never zero."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class SignalsOut(serializers.Serializer[Any]):
    """The signals of services at one moment, and how far to trust them."""

    environment = serializers.CharField()
    state = serializers.CharField(help_text="live, stale or unavailable")
    as_of = serializers.DateTimeField(allow_null=True, help_text="what the figures are true for")
    age_s = serializers.FloatField(allow_null=True)
    reason = serializers.CharField(help_text="why it is not live")
    window_s = serializers.IntegerField(allow_null=True, help_text="of rates and ratios")
    services = serializers.DictField(
        child=serializers.DictField(), help_text="signals by name of the service"
    )

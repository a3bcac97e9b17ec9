"""Fields of request bodies that take what they say, and nothing that merely looks like it."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.utils.dateparse import parse_datetime
from rest_framework import serializers


class TextField(serializers.CharField):
    """Text: a JSON string, not a number or a boolean that could be written as one."""

    default_error_messages = {
        "required": "is missing: expected text",
        "null": "expected text, not null",
        "blank": "is empty: expected text",
    }

    def to_internal_value(self, data: Any) -> str:
        """Return the text."""
        if not isinstance(data, str):
            raise serializers.ValidationError("expected text")
        return str(super().to_internal_value(data))


class InstantField(serializers.CharField):
    """A point in time: RFC 3339, with its offset."""

    default_error_messages = {"null": "expected a time, not null"}

    def to_internal_value(self, data: Any) -> Any:
        """Return an aware datetime in UTC."""
        try:
            instant = parse_datetime(data) if isinstance(data, str) else None
            if instant is not None and instant.tzinfo is not None:
                return instant.astimezone(UTC)
        except (ValueError, OverflowError):  # the latter at either end of the calendar
            pass
        raise serializers.ValidationError("expected an RFC 3339 time, such as 2026-11-02T02:14:00Z")


class BoundedSecondsField(serializers.FloatField):
    """A duration in seconds, between two bounds that the refusal names."""

    default_error_messages = {
        "required": "is missing: expected a number of seconds",
        "null": "expected a number of seconds, not null",
    }

    def __init__(self, *, min_s: float, max_s: float, **options: Any) -> None:
        super().__init__(min_value=min_s, max_value=max_s, **options)
        self._bounds = (min_s, max_s)

    def to_internal_value(self, data: Any) -> float:
        """Return the number."""
        is_number = isinstance(data, int | float) and not isinstance(data, bool)
        if not is_number or not self._bounds[0] <= data <= self._bounds[1]:
            raise serializers.ValidationError(
                f"expected {self._bounds[0]:.0f} to {self._bounds[1]:.0f} seconds"
            )
        return float(data)

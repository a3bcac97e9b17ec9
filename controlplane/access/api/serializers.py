"""Shapes of access over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


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

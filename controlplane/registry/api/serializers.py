"""Shapes of the registry over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class EnvironmentOut(serializers.Serializer[Any]):
    """An environment."""

    slug = serializers.CharField()
    name = serializers.CharField()


class EnvironmentsOut(serializers.Serializer[Any]):
    """Every environment, oldest first."""

    environments = EnvironmentOut(many=True)


class EndpointOut(serializers.Serializer[Any]):
    """An endpoint of a service."""

    name = serializers.CharField(source="__str__")
    method = serializers.CharField()
    route = serializers.CharField()
    criticality = serializers.CharField()


class DependencyOut(serializers.Serializer[Any]):
    """A dependency of a service; `target` is null for something external."""

    name = serializers.CharField()
    target = serializers.CharField(source="target.slug", allow_null=True, default=None)


class ServiceOut(serializers.Serializer[Any]):
    """A service and what it consists of."""

    environment = serializers.CharField(source="environment.slug")
    slug = serializers.CharField()
    team = serializers.CharField(source="team.slug")
    tier = serializers.IntegerField()
    description = serializers.CharField()
    runbook_url = serializers.CharField()
    dialect = serializers.CharField()
    registered_at = serializers.DateTimeField()
    endpoints = EndpointOut(many=True, source="endpoints.all")
    dependencies = DependencyOut(many=True, source="dependencies.all")


class ServicesOut(serializers.Serializer[Any]):
    """One page of services, by name."""

    services = ServiceOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)

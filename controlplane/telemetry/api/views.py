"""Signals over HTTP, from the shared picture: reading them asks Prometheus nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.http.permissions import MayAct
from controlplane.kernel.clock import utc_now
from controlplane.registry.http.environments import ENVIRONMENT, environment_of
from controlplane.registry.selectors import get_service
from controlplane.telemetry.api.serializers import SignalsOut
from controlplane.telemetry.domain.picture import ServiceSignals
from controlplane.telemetry.selectors import PictureRead, read_picture


class FleetSignalsView(APIView):
    """The signals of every service."""

    permission_classes = (MayAct,)
    actions = {"GET": "signal.read"}

    @extend_schema(
        operation_id="read_fleet_signals", parameters=[ENVIRONMENT], responses=SignalsOut
    )
    def get(self, request: Request) -> Response:
        """Return the newest picture of the fleet."""
        environment = environment_of(request).slug
        read = read_picture(environment, utc_now())
        services = read.picture.services if read.picture is not None else {}
        return Response(_body(environment, read, services))


class ServiceSignalsView(APIView):
    """The signals of one service."""

    permission_classes = (MayAct,)
    actions = {"GET": "signal.read"}

    @extend_schema(
        operation_id="read_service_signals", parameters=[ENVIRONMENT], responses=SignalsOut
    )
    def get(self, request: Request, service_slug: str) -> Response:
        """Return what the newest picture says of one service."""
        service = get_service(environment_of(request).slug, service_slug)
        environment = service.environment.slug
        read = read_picture(environment, utc_now())
        seen = read.picture.services if read.picture is not None else {}
        services = {service.slug: seen[service.slug]} if service.slug in seen else {}
        return Response(_body(environment, read, services))


def _body(
    environment: str, read: PictureRead, services: Mapping[str, ServiceSignals]
) -> Mapping[str, Any]:
    body = {
        "environment": environment,
        "state": read.state,
        "as_of": read.as_of,
        "age_s": read.age_s,
        "reason": read.reason,
        "window_s": read.picture.window_s if read.picture is not None else None,
        "services": {name: asdict(signals) for name, signals in sorted(services.items())},
    }
    return SignalsOut(body).data

"""Environments and services over HTTP."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.http.paging import PARAMETERS, encode_cursor, window_of
from controlplane.access.http.permissions import MayAct
from controlplane.access.http.queries import check_names
from controlplane.registry.api.serializers import EnvironmentsOut, ServiceOut, ServicesOut
from controlplane.registry.http.environments import ENVIRONMENT, environment_of
from controlplane.registry.selectors import get_service, list_environments, list_services


class EnvironmentsView(APIView):
    """Every environment."""

    permission_classes = (MayAct,)
    actions = {"GET": "environment.read"}

    @extend_schema(operation_id="list_environments", responses=EnvironmentsOut)
    def get(self, request: Request) -> Response:
        """Return every environment, oldest first."""
        check_names(request, ())
        return Response(EnvironmentsOut({"environments": list_environments()}).data)


class ServicesView(APIView):
    """The registered services of an environment."""

    permission_classes = (MayAct,)
    actions = {"GET": "service.read"}

    @extend_schema(
        operation_id="list_services",
        parameters=[
            ENVIRONMENT,
            OpenApiParameter("team", str, description="Only services of this team."),
            OpenApiParameter("query", str, description="Only services whose name contains this."),
            *PARAMETERS,
        ],
        responses=ServicesOut,
    )
    def get(self, request: Request) -> Response:
        """Return services by name."""
        window = window_of(request, "environment", "team", "query")
        team, query = request.query_params.get("team"), request.query_params.get("query", "")
        after = str(window.after or "")
        services = [
            service
            for service in list_services(environment_of(request).slug)
            if service.slug > after
            and query.lower() in service.slug
            and team in (None, "", service.team.slug)
        ]
        page, has_next = window.cut(services)
        next_cursor = encode_cursor(page[-1].slug) if has_next else None
        return Response(ServicesOut({"services": page, "next_cursor": next_cursor}).data)


class ServiceView(APIView):
    """One service."""

    permission_classes = (MayAct,)
    actions = {"GET": "service.read"}

    @extend_schema(operation_id="read_service", parameters=[ENVIRONMENT], responses=ServiceOut)
    def get(self, request: Request, service_slug: str) -> Response:
        """Return a service with its endpoints and dependencies."""
        service = get_service(environment_of(request).slug, service_slug)
        return Response(ServiceOut(service).data)

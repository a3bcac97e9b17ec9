"""Instances and convergence over HTTP."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.http.paging import PARAMETERS, encode_cursor, window_of
from controlplane.access.http.permissions import MayAct
from controlplane.access.http.queries import choice_of
from controlplane.delivery.api.serializers import ConvergenceOut, InstancesOut
from controlplane.delivery.selectors import convergence, list_instances
from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import InvalidInput, NotFound
from controlplane.policies.selectors import latest_publication
from controlplane.registry.http.environments import ENVIRONMENT, environment_of
from controlplane.registry.selectors import get_service


class InstancesView(APIView):
    """Every instance that polls, registered service or not."""

    permission_classes = (MayAct,)
    actions = {"GET": "instance.read"}

    @extend_schema(
        operation_id="list_instances",
        parameters=[
            ENVIRONMENT,
            OpenApiParameter("service", str, description="Only instances of this service."),
            OpenApiParameter("live", bool, description="Only instances that poll now."),
            *PARAMETERS,
        ],
        responses=InstancesOut,
    )
    def get(self, request: Request) -> Response:
        """Return instances by service and instance."""
        window = window_of(request, "environment", "service", "live")
        parameters = request.query_params
        is_live_only = choice_of(request, "live", ("true", "false")) == "true"
        after = str(window.after or "")
        instances = [
            row
            for row in list_instances(
                environment_of(request).slug, parameters.get("service") or None, now=utc_now()
            )
            if _key(row.service, row.instance_id) > after and (row.is_live or not is_live_only)
        ]
        page, has_next = window.cut(instances)
        last = _key(page[-1].service, page[-1].instance_id) if page else ""
        next_cursor = encode_cursor(last) if has_next else None
        return Response(InstancesOut({"instances": page, "next_cursor": next_cursor}).data)


class ConvergenceView(APIView):
    """How far a publication of one service has spread."""

    permission_classes = (MayAct,)
    actions = {"GET": "instance.read"}

    @extend_schema(
        operation_id="read_convergence",
        parameters=[
            ENVIRONMENT,
            OpenApiParameter("sequence", int, description="The newest when left out."),
        ],
        responses=ConvergenceOut,
    )
    def get(self, request: Request, service_slug: str) -> Response:
        """Return which live instances enforce a publication, and how long they took."""
        service = get_service(environment_of(request).slug, service_slug)
        environment = service.environment.slug
        sequence = _sequence(request.query_params.get("sequence"))
        if sequence is None:
            publication = latest_publication(environment, service.slug)
            if publication is None:
                raise NotFound(f"{service} has no publication yet", field="sequence")
            sequence = publication.sequence
        spread = convergence(environment, service.slug, sequence, now=utc_now())
        return Response(ConvergenceOut(spread).data)


def _key(service: str, instance_id: str) -> str:
    # A space sorts before every character of a name, as the list itself is sorted.
    return f"{service} {instance_id}"


def _sequence(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidInput("sequence must be a whole number", field="sequence")
    return int(text)

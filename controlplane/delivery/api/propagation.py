"""Publications on their way, and who drifts, over HTTP."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.http.paging import PARAMETERS, encode_cursor, window_of
from controlplane.access.http.permissions import MayAct
from controlplane.access.http.queries import choice_of
from controlplane.delivery.api.serializers import (
    DriftsOut,
    InstancesProgressOut,
    PublicationOut,
    PublicationsOut,
)
from controlplane.delivery.domain.drift import DriftKind
from controlplane.delivery.domain.progress import Progress
from controlplane.delivery.selectors import (
    fleet_drift,
    follow_publication,
    list_recent_publications,
)
from controlplane.kernel.clock import utc_now
from controlplane.registry.http.environments import ENVIRONMENT, environment_of

_SERVICE = OpenApiParameter("service", str, description="Only of this service.")


class PublicationsView(APIView):
    """Publications of services and how far each has spread."""

    permission_classes = (MayAct,)
    actions = {"GET": "instance.read"}

    @extend_schema(
        operation_id="list_publications",
        parameters=[ENVIRONMENT, _SERVICE, *PARAMETERS],
        responses=PublicationsOut,
    )
    def get(self, request: Request) -> Response:
        """Return publications, newest first; those of the fleet default itself are left out."""
        window = window_of(request, "environment", "service")
        rows = list_recent_publications(
            environment_of(request).slug,
            service=request.query_params.get("service") or None,
            before_sequence=window.after_number,
            limit=window.one_more,
            now=utc_now(),
        )
        page, has_next = window.cut(rows)
        next_cursor = encode_cursor(page[-1].sequence) if has_next else None
        return Response(PublicationsOut({"publications": page, "next_cursor": next_cursor}).data)


class PublicationView(APIView):
    """One publication and how far it has spread."""

    permission_classes = (MayAct,)
    actions = {"GET": "instance.read"}

    @extend_schema(
        operation_id="read_publication", parameters=[ENVIRONMENT], responses=PublicationOut
    )
    def get(self, request: Request, sequence: int) -> Response:
        """Return how far a publication has spread, and how long it took."""
        found = follow_publication(environment_of(request).slug, sequence, now=utc_now())
        return Response(PublicationOut(found.row).data)


class PublicationInstancesView(APIView):
    """What every instance did with one publication."""

    permission_classes = (MayAct,)
    actions = {"GET": "instance.read"}

    @extend_schema(
        operation_id="list_publication_instances",
        parameters=[
            ENVIRONMENT,
            OpenApiParameter(
                "progress", str, enum=[*Progress], description="Only instances that are this far."
            ),
            *PARAMETERS,
        ],
        responses=InstancesProgressOut,
    )
    def get(self, request: Request, sequence: int) -> Response:
        """Return instances by name, with when each fetched, applied or rejected it."""
        window = window_of(request, "environment", "progress")
        progress = choice_of(request, "progress", [*Progress])
        found = follow_publication(environment_of(request).slug, sequence, now=utc_now())
        after = str(window.after or "")
        rows = [
            row
            for row in sorted(found.instances, key=lambda row: row.instance_id)
            if row.instance_id > after and progress in (None, row.progress.value)
        ]
        page, has_next = window.cut(rows)
        next_cursor = encode_cursor(page[-1].instance_id) if has_next else None
        return Response(InstancesProgressOut({"instances": page, "next_cursor": next_cursor}).data)


class DriftView(APIView):
    """Who enforces something other than it should, over the fleet."""

    permission_classes = (MayAct,)
    actions = {"GET": "instance.read"}

    @extend_schema(
        operation_id="list_drift",
        parameters=[
            ENVIRONMENT,
            _SERVICE,
            OpenApiParameter(
                "kind", str, enum=[*DriftKind], description="Only drift of this kind."
            ),
            *PARAMETERS,
        ],
        responses=DriftsOut,
    )
    def get(self, request: Request) -> Response:
        """Return drifting and silent instances by service and name, with how late each is."""
        window = window_of(request, "environment", "service", "kind")
        kind = choice_of(request, "kind", [*DriftKind])
        service = request.query_params.get("service")
        fleet = fleet_drift(
            environment_of(request).slug, [service] if service else None, now=utc_now()
        )
        after = str(window.after or "")
        keyed = [
            # A space sorts before every character of a name.
            (f"{drift.service} {drift.instance_id}", drift)
            for each in fleet.services
            for drift in each.drifts
            if kind in (None, drift.kind.value)
        ]
        keyed.sort(key=lambda each: each[0])
        page, has_next = window.cut([each for each in keyed if each[0] > after])
        return Response(
            DriftsOut(
                {
                    "live": fleet.live,
                    "current": fleet.current,
                    "drifting": fleet.drifting,
                    "silent": fleet.silent,
                    "instances": [drift for _, drift in page],
                    "next_cursor": encode_cursor(page[-1][0]) if has_next else None,
                }
            ).data
        )

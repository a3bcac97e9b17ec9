"""Alerts, and who has been told, over HTTP."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.http.paging import PARAMETERS, encode_cursor, window_of
from controlplane.access.http.permissions import MayAct
from controlplane.access.http.queries import choice_of
from controlplane.notifications.api.serializers import AlertsOut
from controlplane.notifications.selectors import list_alerts

STATES = {"firing": True, "resolved": False}


class AlertsView(APIView):
    """What needs somebody, and which channels know."""

    permission_classes = (MayAct,)
    actions = {"GET": "alert.read"}

    @extend_schema(
        operation_id="list_alerts",
        parameters=[
            OpenApiParameter("environment", str, description="Only of this one."),
            OpenApiParameter("state", str, enum=[*STATES], description="Only in this state."),
            *PARAMETERS,
        ],
        responses=AlertsOut,
    )
    def get(self, request: Request) -> Response:
        """Return alerts, newest first, each with what every channel has been told."""
        window = window_of(request, "environment", "state")
        state = choice_of(request, "state", STATES)
        found = list_alerts(
            request.query_params.get("environment") or None,
            is_open=None if state is None else STATES[state],
            before_id=window.after_number,
            limit=window.one_more,
        )
        page, has_next = window.cut(found)
        next_cursor = encode_cursor(page[-1].pk) if has_next else None
        return Response(AlertsOut({"alerts": page, "next_cursor": next_cursor}).data)

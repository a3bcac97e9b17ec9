"""The history of policies."""

from __future__ import annotations

from datetime import UTC, datetime

from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.http.paging import PARAMETERS, encode_cursor, window_of
from controlplane.access.http.permissions import MayAct
from controlplane.access.http.queries import choice_of
from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import InvalidInput
from controlplane.policies.api.serializers import ChangesOut
from controlplane.policies.selectors import list_changes
from controlplane.policies.selectors.history import ACTIONS, ACTIONS_BY_KIND
from controlplane.registry.http.environments import ENVIRONMENT, environment_of

_KINDS = (*ACTIONS_BY_KIND, *ACTIONS)


class ChangesView(APIView):
    """Who changed what, why and when."""

    permission_classes = (MayAct,)
    actions = {"GET": "change.read"}

    @extend_schema(
        operation_id="list_changes",
        parameters=[
            ENVIRONMENT,
            OpenApiParameter("service", str, description="Only what changed this service."),
            OpenApiParameter("actor", str, description="Only what this user or its tokens did."),
            OpenApiParameter("kind", str, enum=_KINDS, description="Only this kind of change."),
            OpenApiParameter("since", datetime, description="Only changes from then on."),
            *PARAMETERS,
        ],
        responses=ChangesOut,
    )
    def get(self, request: Request) -> Response:
        """Return changes, newest first."""
        window = window_of(request, "environment", "service", "actor", "kind", "since")
        parameters = request.query_params
        changes = list_changes(
            environment_of(request).slug,
            service=parameters.get("service") or None,
            actor=parameters.get("actor") or None,
            kind=choice_of(request, "kind", _KINDS),
            since=_instant(parameters.get("since")),
            before_id=window.after_number,
            limit=window.one_more,
            now=utc_now(),
        )
        page, has_next = window.cut(changes)
        next_cursor = encode_cursor(page[-1].id) if has_next else None
        return Response(ChangesOut({"changes": page, "next_cursor": next_cursor}).data)


def _instant(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        instant = parse_datetime(text)
        if instant is not None and instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter at either end of the calendar
        pass
    raise InvalidInput(
        "since must be an RFC 3339 time, such as 2026-11-02T02:14:00Z", field="since"
    )

"""Service tokens over HTTP: list, make, look at, rotate and revoke."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from controlplane.access.api.serializers import (
    CreateServiceTokenIn,
    MadeServiceTokenOut,
    RotateServiceTokenIn,
    ServiceTokenOut,
    ServiceTokensOut,
)
from controlplane.access.http.actors import actor_of
from controlplane.access.http.paging import PARAMETERS, encode_cursor, window_of
from controlplane.access.http.permissions import MayAct
from controlplane.access.models import ServiceToken
from controlplane.access.selectors import get_service_token, list_service_token_rows
from controlplane.access.services.tokens import (
    DEFAULT_GRACE,
    create_service_token,
    revoke_token,
    rotate_token,
)
from controlplane.kernel.clock import utc_now
from controlplane.resilience.http.idempotent import idempotent, idempotent_but_for
from controlplane.resilience.http.parameters import IDEMPOTENCY_KEY


class ServiceTokensView(APIView):
    """The tokens with which services read their policies."""

    permission_classes = (MayAct,)
    actions = {"GET": "token.read", "POST": "token.manage"}

    @extend_schema(
        operation_id="list_service_tokens",
        parameters=[
            OpenApiParameter("environment", str, description="Only of this environment."),
            OpenApiParameter("service", str, description="Only of this service."),
            *PARAMETERS,
        ],
        responses=ServiceTokensOut,
    )
    def get(self, request: Request) -> Response:
        """Return service tokens, newest first; never their texts."""
        window = window_of(request, "environment", "service")
        tokens = list_service_token_rows(
            environment=request.query_params.get("environment") or None,
            service=request.query_params.get("service") or None,
            before_id=window.after_number,
            limit=window.one_more,
        )
        page, has_next = window.cut(tokens)
        next_cursor = encode_cursor(page[-1].pk) if has_next else None
        answer = {"service_tokens": page, "next_cursor": next_cursor}
        return Response(ServiceTokensOut(answer, context={"now": utc_now()}).data)

    @extend_schema(
        operation_id="create_service_token",
        parameters=[IDEMPOTENCY_KEY],
        request=CreateServiceTokenIn,
        responses={201: MadeServiceTokenOut},
    )
    @idempotent_but_for("token")
    def post(self, request: Request) -> Response:
        """Make a token; its text is in this answer and never again."""
        body = CreateServiceTokenIn(data=request.data)
        body.is_valid(raise_exception=True)
        token, text = create_service_token(
            actor=actor_of(request), now=utc_now(), **body.validated_data
        )
        return _made(request, token, text)


class ServiceTokenView(APIView):
    """One service token."""

    permission_classes = (MayAct,)
    actions = {"GET": "token.read"}

    @extend_schema(operation_id="read_service_token", responses=ServiceTokenOut)
    def get(self, request: Request, token_id: int) -> Response:
        """Return one service token; never its text."""
        return Response(_shown(get_service_token(token_id)))


class RotateServiceTokenView(APIView):
    """The successor of a token."""

    permission_classes = (MayAct,)
    actions = {"POST": "token.manage"}

    @extend_schema(
        operation_id="rotate_service_token",
        parameters=[IDEMPOTENCY_KEY],
        request=RotateServiceTokenIn,
        responses={201: MadeServiceTokenOut},
    )
    @idempotent_but_for("token")
    def post(self, request: Request, token_id: int) -> Response:
        """Make the successor; the old token works on for the grace time."""
        token = get_service_token(token_id)
        body = RotateServiceTokenIn(data=request.data)
        body.is_valid(raise_exception=True)
        grace_s = body.validated_data.get("grace_s", DEFAULT_GRACE.total_seconds())
        successor, text = rotate_token(
            actor=actor_of(request), token=token, grace=timedelta(seconds=grace_s), now=utc_now()
        )
        return _made(request, successor, text)


class RevokeServiceTokenView(APIView):
    """The end of a token, now."""

    permission_classes = (MayAct,)
    actions = {"POST": "token.manage"}

    @extend_schema(
        operation_id="revoke_service_token",
        parameters=[IDEMPOTENCY_KEY],
        request=None,
        responses=ServiceTokenOut,
    )
    @idempotent
    def post(self, request: Request, token_id: int) -> Response:
        """Make a token worthless; delivery forgets it within 2 s."""
        token = get_service_token(token_id)
        return Response(_shown(revoke_token(actor=actor_of(request), token=token, now=utc_now())))


def _shown(token: ServiceToken) -> dict[str, Any]:
    return dict(ServiceTokenOut(token, context={"now": utc_now()}).data)


def _made(request: Request, token: ServiceToken, text: str) -> Response:
    body = {**_shown(token), "token": text}
    address = reverse("api-service-token", (token.pk,), request=request)
    return Response(body, status=201, headers={"Location": address})

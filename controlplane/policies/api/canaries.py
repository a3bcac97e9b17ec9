"""The canary of a service: look at it, start one, widen, promote and end it."""

from __future__ import annotations

from datetime import timedelta

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from controlplane.access.http.actors import actor_of
from controlplane.access.http.permissions import MayAct
from controlplane.kernel.clock import utc_now
from controlplane.policies.api.etags import canary_etag, check_if_match, version_etag
from controlplane.policies.api.fields import field_named
from controlplane.policies.api.parameters import IDEMPOTENCY_KEY, IF_MATCH
from controlplane.policies.api.serializers import (
    CanaryOut,
    CurrentCanaryOut,
    ReasonIn,
    StartCanaryIn,
    VersionOut,
    WidenCanaryIn,
)
from controlplane.policies.api.versions import expected_version
from controlplane.policies.models import Canary
from controlplane.policies.selectors import (
    find_canary_in_force,
    get_canary_in_force,
    latest_canary_publication,
)
from controlplane.policies.services import (
    end_canary,
    promote_canary,
    start_canary,
    widen_canary,
)
from controlplane.policies.services.canaries import DEFAULT_LASTS
from controlplane.registry.http.environments import ENVIRONMENT, environment_of
from controlplane.registry.models import Service
from controlplane.registry.selectors import get_service
from controlplane.resilience.http.idempotent import idempotent


class CanaryView(APIView):
    """The canary of one service: look at it, start one, or let it reach more instances."""

    permission_classes = (MayAct,)
    actions = {"GET": "canary.read", "POST": "canary.start", "PATCH": "canary.widen"}

    @extend_schema(operation_id="read_canary", parameters=[ENVIRONMENT], responses=CurrentCanaryOut)
    def get(self, request: Request, service_slug: str) -> Response:
        """Return the canary in force; null when there is none."""
        service = get_service(environment_of(request).slug, service_slug)
        canary = find_canary_in_force(service, now=utc_now())
        body = CurrentCanaryOut({"canary": canary}, context=_context(service)).data
        return Response(body, headers={"ETag": canary_etag(canary)})

    @extend_schema(
        operation_id="start_canary",
        parameters=[ENVIRONMENT, IDEMPOTENCY_KEY, IF_MATCH],
        request=StartCanaryIn,
        responses={201: CanaryOut},
    )
    @idempotent
    def post(self, request: Request, service_slug: str) -> Response:
        """Serve a document to a part of the instances. If-Match takes the ETag of the policy."""
        service = get_service(environment_of(request).slug, service_slug)
        body = StartCanaryIn(data=request.data)
        body.is_valid(raise_exception=True)
        lasts_s = body.validated_data.get("lasts_s", DEFAULT_LASTS.total_seconds())
        with field_named("lasts", "lasts_s"):
            canary = start_canary(
                actor=actor_of(request),
                service=service,
                document=body.validated_data["document"],
                ratio=body.validated_data["ratio"],
                lasts=timedelta(seconds=lasts_s),
                reason=body.validated_data["reason"],
                now=utc_now(),
                expected_number=expected_version(request, service),
            )
        address = reverse("api-canary", (service.slug,), request=request)
        location = f"{address}?environment={service.environment.slug}"
        return _answer(canary, status=201, headers={"Location": location})

    @extend_schema(
        operation_id="widen_canary",
        parameters=[ENVIRONMENT, IDEMPOTENCY_KEY, IF_MATCH],
        request=WidenCanaryIn,
        responses=CanaryOut,
    )
    @idempotent
    def patch(self, request: Request, service_slug: str) -> Response:
        """Let the canary reach more instances: those it reached, and others."""
        canary = _canary_of(request, service_slug)
        body = WidenCanaryIn(data=request.data)
        body.is_valid(raise_exception=True)
        wider = widen_canary(
            actor=actor_of(request),
            canary=canary,
            ratio=body.validated_data["ratio"],
            reason=body.validated_data["reason"],
            now=utc_now(),
            expected_ratio=_expected_ratio(request, canary),
        )
        return _answer(wider)


class PromoteCanaryView(APIView):
    """The canary of one service, as the next version for every instance."""

    permission_classes = (MayAct,)
    actions = {"POST": "canary.promote"}

    @extend_schema(
        operation_id="promote_canary",
        parameters=[ENVIRONMENT, IDEMPOTENCY_KEY, IF_MATCH],
        request=ReasonIn,
        responses={201: VersionOut},
    )
    @idempotent
    def post(self, request: Request, service_slug: str) -> Response:
        """Publish the canary's document as the next version."""
        canary = _canary_of(request, service_slug)
        body = ReasonIn(data=request.data)
        body.is_valid(raise_exception=True)
        version = promote_canary(
            actor=actor_of(request),
            canary=canary,
            reason=body.validated_data["reason"],
            now=utc_now(),
            expected_ratio=_expected_ratio(request, canary),
        )
        address = reverse("api-version", (service_slug, version.number), request=request)
        headers = {
            "ETag": version_etag(version.number),
            "Location": f"{address}?environment={canary.service.environment.slug}",
        }
        return Response(VersionOut(version).data, status=201, headers=headers)


class EndCanaryView(APIView):
    """The end of a canary, now: every instance goes back to the version."""

    permission_classes = (MayAct,)
    actions = {"POST": "canary.end"}

    @extend_schema(
        operation_id="end_canary",
        parameters=[ENVIRONMENT, IDEMPOTENCY_KEY, IF_MATCH],
        request=ReasonIn,
        responses=CanaryOut,
    )
    @idempotent
    def post(self, request: Request, service_slug: str) -> Response:
        """Take the canary back from every instance."""
        canary = _canary_of(request, service_slug)
        body = ReasonIn(data=request.data)
        body.is_valid(raise_exception=True)
        ended = end_canary(
            actor=actor_of(request),
            canary=canary,
            reason=body.validated_data["reason"],
            now=utc_now(),
            expected_ratio=_expected_ratio(request, canary),
        )
        return _answer(ended)


def _canary_of(request: Request, service_slug: str) -> Canary:
    service = get_service(environment_of(request).slug, service_slug)
    return get_canary_in_force(service, now=utc_now())


def _expected_ratio(request: Request, canary: Canary) -> float | None:
    # The ratio is compared once more under the lock: this read alone could be overtaken.
    return canary.ratio if check_if_match(request, canary_etag(canary)) else None


def _context(service: Service) -> dict[str, int | None]:
    publication = latest_canary_publication(service.environment.slug, service.slug)
    return {"sequence": publication.sequence if publication is not None else None}


def _answer(
    canary: Canary, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    body = CanaryOut(canary, context=_context(canary.service)).data
    etag = canary_etag(canary if canary.closed_at is None else None)
    return Response(body, status=status, headers={"ETag": etag, **(headers or {})})

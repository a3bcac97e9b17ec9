"""Overrides: list those in force, open, look at, extend and revert one."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from controlplane.access.http.actors import actor_of
from controlplane.access.http.paging import PARAMETERS, encode_cursor, window_of
from controlplane.access.http.permissions import MayAct
from controlplane.kernel.clock import utc_now
from controlplane.policies.api.etags import check_if_match, policy_etags
from controlplane.policies.api.fields import field_named
from controlplane.policies.api.parameters import IDEMPOTENCY_KEY, IF_MATCH
from controlplane.policies.api.serializers import (
    ExtendOverrideIn,
    OpenOverrideIn,
    OverrideOut,
    OverridesOut,
    ReasonIn,
)
from controlplane.policies.models import Override
from controlplane.policies.selectors import (
    get_override,
    latest_publication,
    list_overrides_in_force,
)
from controlplane.policies.selectors.sources import read_sources
from controlplane.policies.services import extend_override, open_override, revert_override
from controlplane.registry.http.environments import ENVIRONMENT, environment_of
from controlplane.registry.selectors import get_service
from controlplane.resilience.http.idempotent import idempotent


class OverridesView(APIView):
    """The overrides of one service: list those in force, or open one."""

    permission_classes = (MayAct,)
    actions = {"GET": "override.read", "POST": "override.open"}

    @extend_schema(
        operation_id="list_overrides", parameters=[ENVIRONMENT, *PARAMETERS], responses=OverridesOut
    )
    def get(self, request: Request, service_slug: str) -> Response:
        """Return overrides in force, oldest first."""
        window = window_of(request, "environment")
        service = get_service(environment_of(request).slug, service_slug)
        after = window.after_number or 0
        overrides = [
            row
            for row in list_overrides_in_force(
                service.environment.slug, service.slug, now=utc_now()
            )
            if row.id > after
        ]
        page, has_next = window.cut(overrides)
        next_cursor = encode_cursor(page[-1].id) if has_next else None
        return Response(OverridesOut({"overrides": page, "next_cursor": next_cursor}).data)

    @extend_schema(
        operation_id="open_override",
        parameters=[ENVIRONMENT, IDEMPOTENCY_KEY, IF_MATCH],
        request=OpenOverrideIn,
        responses={201: OverrideOut},
    )
    @idempotent
    def post(self, request: Request, service_slug: str) -> Response:
        """Patch the policy of a service for a limited time."""
        service = get_service(environment_of(request).slug, service_slug)
        body = OpenOverrideIn(data=request.data)
        body.is_valid(raise_exception=True)
        lasts_s = body.validated_data.get("lasts_s", settings.TIDEGATE.override_default_s)
        now = utc_now()
        # A patch takes nothing back that came between, so the ETag need not hold under the lock.
        check_if_match(request, *policy_etags(read_sources(service, now=now), now))
        with field_named("lasts", "lasts_s"):
            override = open_override(
                actor=actor_of(request),
                service=service,
                patch=body.validated_data["patch"],
                lasts=timedelta(seconds=lasts_s),
                reason=body.validated_data["reason"],
                now=now,
            )
        address = reverse("api-override", (override.pk,), request=request)
        return _answer(override, status=201, headers={"Location": address})


class OverrideView(APIView):
    """One override, in force or not."""

    permission_classes = (MayAct,)
    actions = {"GET": "override.read"}

    @extend_schema(operation_id="read_override", responses=OverrideOut)
    def get(self, request: Request, override_id: int) -> Response:
        """Return one override."""
        return _answer(get_override(override_id))


class ExtendOverrideView(APIView):
    """A later end for an override."""

    permission_classes = (MayAct,)
    actions = {"POST": "override.extend"}

    @extend_schema(
        operation_id="extend_override",
        parameters=[IDEMPOTENCY_KEY],
        request=ExtendOverrideIn,
        responses=OverrideOut,
    )
    @idempotent
    def post(self, request: Request, override_id: int) -> Response:
        """Let an override end later."""
        override = get_override(override_id)
        body = ExtendOverrideIn(data=request.data)
        body.is_valid(raise_exception=True)
        with field_named("by", "by_s"):
            extended = extend_override(
                actor=actor_of(request),
                override=override,
                by=timedelta(seconds=body.validated_data["by_s"]),
                reason=body.validated_data["reason"],
                now=utc_now(),
            )
        return _answer(extended)


class RevertOverrideView(APIView):
    """The end of an override, now."""

    permission_classes = (MayAct,)
    actions = {"POST": "override.revert"}

    @extend_schema(
        operation_id="revert_override",
        parameters=[IDEMPOTENCY_KEY],
        request=ReasonIn,
        responses=OverrideOut,
    )
    @idempotent
    def post(self, request: Request, override_id: int) -> Response:
        """End an override now."""
        override = get_override(override_id)
        body = ReasonIn(data=request.data)
        body.is_valid(raise_exception=True)
        reverted = revert_override(
            actor=actor_of(request),
            override=override,
            reason=body.validated_data["reason"],
            now=utc_now(),
        )
        return _answer(reverted)


def _answer(
    override: Override, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    service = override.service
    publication = latest_publication(service.environment.slug, service.slug)
    sequence = publication.sequence if publication is not None else None
    body = OverrideOut(override, context={"sequence": sequence}).data
    return Response(body, status=status, headers=headers)

"""Versions of a service, and fleet defaults of an environment."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from controlplane.access.http.actors import actor_of
from controlplane.access.http.paging import PARAMETERS, encode_cursor, window_of
from controlplane.access.http.permissions import MayAct
from controlplane.kernel.clock import utc_now
from controlplane.policies.api.etags import check_if_match, policy_etags, version_etag
from controlplane.policies.api.parameters import IDEMPOTENCY_KEY, IF_MATCH
from controlplane.policies.api.serializers import (
    FleetDefaultOut,
    PublishIn,
    ReasonIn,
    VersionOut,
    VersionsOut,
)
from controlplane.policies.models import PolicyVersion
from controlplane.policies.selectors import (
    current_fleet_default,
    get_version,
    list_fleet_defaults,
    list_versions,
)
from controlplane.policies.selectors.sources import read_sources
from controlplane.policies.services import (
    publish_fleet_default,
    publish_version,
    roll_back_fleet_default,
    roll_back_version,
)
from controlplane.registry.http.environments import ENVIRONMENT, environment_of
from controlplane.registry.models import Environment, Service
from controlplane.registry.selectors import get_service
from controlplane.resilience.http.idempotent import idempotent


class VersionsView(APIView):
    """The versions of one service: list them, or publish the next."""

    permission_classes = (MayAct,)
    actions = {"GET": "version.read", "POST": "version.publish"}

    @extend_schema(
        operation_id="list_versions", parameters=[ENVIRONMENT, *PARAMETERS], responses=VersionsOut
    )
    def get(self, request: Request, service_slug: str) -> Response:
        """Return versions, newest first; the ETag is that of the version in force."""
        window = window_of(request, "environment")
        service = get_service(environment_of(request).slug, service_slug)
        versions = list_versions(service, before_number=window.after_number, limit=window.one_more)
        page, has_next = window.cut(versions)
        body = {
            "versions": page,
            "next_cursor": encode_cursor(page[-1].number) if has_next else None,
        }
        current = read_sources(service, now=utc_now()).version_number
        return Response(VersionsOut(body).data, headers={"ETag": version_etag(current)})

    @extend_schema(
        operation_id="publish_version",
        parameters=[ENVIRONMENT, IDEMPOTENCY_KEY, IF_MATCH],
        request=PublishIn,
        responses={201: VersionOut},
    )
    @idempotent
    def post(self, request: Request, service_slug: str) -> Response:
        """Publish a document as the next version."""
        service = get_service(environment_of(request).slug, service_slug)
        body = PublishIn(data=request.data)
        body.is_valid(raise_exception=True)
        version = publish_version(
            actor=actor_of(request),
            service=service,
            document=body.validated_data["document"],
            reason=body.validated_data["reason"],
            now=utc_now(),
            expected_number=expected_version(request, service),
        )
        return _created(request, version)


class VersionView(APIView):
    """One version of one service."""

    permission_classes = (MayAct,)
    actions = {"GET": "version.read"}

    @extend_schema(operation_id="read_version", parameters=[ENVIRONMENT], responses=VersionOut)
    def get(self, request: Request, service_slug: str, number: int) -> Response:
        """Return one version."""
        service = get_service(environment_of(request).slug, service_slug)
        version = get_version(service, number)
        return Response(VersionOut(version).data, headers={"ETag": version_etag(number)})


class PublishAgainView(APIView):
    """An older version, published again under a new number."""

    permission_classes = (MayAct,)
    actions = {"POST": "version.publish"}

    @extend_schema(
        operation_id="roll_back_version",
        parameters=[ENVIRONMENT, IDEMPOTENCY_KEY],
        request=ReasonIn,
        responses={201: VersionOut},
    )
    @idempotent
    def post(self, request: Request, service_slug: str, number: int) -> Response:
        """Publish the document of an older version as the next one."""
        service = get_service(environment_of(request).slug, service_slug)
        body = ReasonIn(data=request.data)
        body.is_valid(raise_exception=True)
        version = roll_back_version(
            actor=actor_of(request),
            service=service,
            to_number=number,
            reason=body.validated_data["reason"],
            now=utc_now(),
        )
        return _created(request, version)


class FleetDefaultView(APIView):
    """The policy layer under all services of an environment."""

    permission_classes = (MayAct,)
    actions = {"GET": "fleet_default.read", "POST": "fleet_default.publish"}

    @extend_schema(
        operation_id="read_fleet_default", parameters=[ENVIRONMENT], responses=FleetDefaultOut
    )
    def get(self, request: Request) -> Response:
        """Return the fleet default in force."""
        version = current_fleet_default(environment_of(request))
        etag = version_etag(version.number if version is not None else 0)
        return Response(FleetDefaultOut({"fleet_default": version}).data, headers={"ETag": etag})

    @extend_schema(
        operation_id="publish_fleet_default",
        parameters=[ENVIRONMENT, IDEMPOTENCY_KEY, IF_MATCH],
        request=PublishIn,
        responses={201: VersionOut},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Publish a fleet default, and with it every service it reaches."""
        environment = environment_of(request)
        body = PublishIn(data=request.data)
        body.is_valid(raise_exception=True)
        version = publish_fleet_default(
            actor=actor_of(request),
            environment=environment,
            document=body.validated_data["document"],
            reason=body.validated_data["reason"],
            now=utc_now(),
            expected_number=_expected_fleet_default(request, environment),
        )
        return _created(request, version)


class FleetDefaultVersionsView(APIView):
    """The fleet defaults there have been."""

    permission_classes = (MayAct,)
    actions = {"GET": "fleet_default.read"}

    @extend_schema(
        operation_id="list_fleet_defaults",
        parameters=[ENVIRONMENT, *PARAMETERS],
        responses=VersionsOut,
    )
    def get(self, request: Request) -> Response:
        """Return fleet defaults, newest first."""
        window = window_of(request, "environment")
        versions = list_fleet_defaults(
            environment_of(request), before_number=window.after_number, limit=window.one_more
        )
        page, has_next = window.cut(versions)
        body = {
            "versions": page,
            "next_cursor": encode_cursor(page[-1].number) if has_next else None,
        }
        return Response(VersionsOut(body).data)


class PublishFleetDefaultAgainView(APIView):
    """An older fleet default, published again under a new number."""

    permission_classes = (MayAct,)
    actions = {"POST": "fleet_default.publish"}

    @extend_schema(
        operation_id="roll_back_fleet_default",
        parameters=[ENVIRONMENT, IDEMPOTENCY_KEY],
        request=ReasonIn,
        responses={201: VersionOut},
    )
    @idempotent
    def post(self, request: Request, number: int) -> Response:
        """Publish the document of an older fleet default as the next one."""
        body = ReasonIn(data=request.data)
        body.is_valid(raise_exception=True)
        version = roll_back_fleet_default(
            actor=actor_of(request),
            environment=environment_of(request),
            to_number=number,
            reason=body.validated_data["reason"],
            now=utc_now(),
        )
        return _created(request, version)


def _created(request: Request, version: PolicyVersion) -> Response:
    if version.service is None:
        address = reverse("api-fleet-default", request=request)
    else:
        address = reverse("api-version", (version.service.slug, version.number), request=request)
    headers = {
        "ETag": version_etag(version.number),
        "Location": f"{address}?environment={version.environment.slug}",
    }
    return Response(VersionOut(version).data, status=201, headers=headers)


def expected_version(request: Request, service: Service) -> int | None:
    """Return the version that an If-Match stands for, after it was found to hold; None without.

    Raises:
        InvalidInput: the header is not a list of quoted ETags.
        PreconditionFailed: none of its ETags is current.
    """
    now = utc_now()
    sources = read_sources(service, now=now)
    number = sources.version_number
    tags = policy_etags(sources, now)
    # The number is compared once more under the lock: this read alone could be overtaken.
    return number if check_if_match(request, *tags) else None


def _expected_fleet_default(request: Request, environment: Environment) -> int | None:
    version = current_fleet_default(environment)
    number = version.number if version is not None else 0
    return number if check_if_match(request, version_etag(number)) else None

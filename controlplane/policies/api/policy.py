"""The effective policy of a service, and the schema that describes policies."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.http.permissions import MayAct
from controlplane.kernel.clock import utc_now
from controlplane.policies.api.etags import policy_etag
from controlplane.policies.api.serializers import PolicyOut
from controlplane.policies.domain.resolve import Leaf
from controlplane.policies.domain.schema import json_schema
from controlplane.policies.selectors import latest_publication
from controlplane.policies.selectors.sources import read_sources
from controlplane.registry.http.environments import ENVIRONMENT, environment_of
from controlplane.registry.selectors import get_service

JSON_SCHEMA = "application/schema+json"


class PolicyView(APIView):
    """What is in force on a service now."""

    permission_classes = (MayAct,)
    actions = {"GET": "policy.read"}

    @extend_schema(operation_id="read_policy", parameters=[ENVIRONMENT], responses=PolicyOut)
    def get(self, request: Request, service_slug: str) -> Response:
        """Return the complete policy, its layers, and for each value the layer that won."""
        now = utc_now()
        service = get_service(environment_of(request).slug, service_slug)
        sources = read_sources(service, now=now)
        resolved = sources.resolve_at(now)
        publication = latest_publication(service.environment.slug, service.slug)
        body = {
            "environment": service.environment.slug,
            "service": service.slug,
            "version": sources.version_number,
            "sequence": publication.sequence if publication is not None else None,
            "policy": resolved.policy,
            "layers": sources.layers_at(now),
            "fields": [_leaf(leaf) for leaf in resolved.leaves.values()],
        }
        etag = policy_etag(sources.version_number, resolved.policy)
        return Response(PolicyOut(body).data, headers={"ETag": etag})


class PolicySchemaView(APIView):
    """The JSON Schema of `tidegate/v1`."""

    permission_classes = (MayAct,)
    actions = {"GET": "policy.read"}

    @extend_schema(
        operation_id="read_policy_schema", responses={(200, JSON_SCHEMA): OpenApiTypes.OBJECT}
    )
    def get(self, request: Request) -> Response:
        """Return the JSON Schema (2020-12) of a policy document, with units."""
        return Response(json_schema(), content_type=JSON_SCHEMA)


def _leaf(leaf: Leaf) -> dict[str, Any]:
    return {
        "path": leaf.path,
        "value": leaf.value,
        "layer": leaf.layer,
        "kind": leaf.kind,
        "beat": [{"layer": label, "value": value} for label, value in leaf.beat],
    }

"""Who am I, the description of the API, and its pages for people."""

from __future__ import annotations

from csp.decorators import csp_update
from django.utils.decorators import method_decorator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.api import description as _description  # noqa: F401 (registers itself)
from controlplane.access.api.serializers import ActorOut
from controlplane.access.http.actors import actor_of
from controlplane.access.http.permissions import MayAct
from controlplane.kernel.errors import NotFound


class MeView(APIView):
    """Who asks, and which roles they hold."""

    permission_classes = (MayAct,)
    actions = {"GET": "actor.read"}

    @extend_schema(operation_id="read_me", responses=ActorOut)
    def get(self, request: Request) -> Response:
        """Return the actor of this request."""
        return Response(ActorOut(actor_of(request)).data)


class SchemaView(SpectacularAPIView):
    """The OpenAPI 3.1 description of this API."""

    permission_classes = (MayAct,)
    actions = {"GET": "description.read"}


# Swagger UI sets element styles from script and draws its icons from data: addresses. Both stay
# confined to this page; scripts are files of ours and of the sidecar package, never inline.
@method_decorator(csp_update({"style-src": ["'unsafe-inline'"]}), name="dispatch")
class DocsView(SpectacularSwaggerSplitView):
    """The API's pages for people, drawn from its description with assets of ours."""

    permission_classes = (MayAct,)
    actions = {"GET": "description.read"}


class UnknownView(APIView):
    """Any other address under /api/: a problem document rather than a page."""

    permission_classes = ()

    @extend_schema(exclude=True)
    def get(self, request: Request, **_: str) -> Response:
        """Refuse."""
        raise NotFound(f"the operator API has nothing at {request.path}")

    post = put = patch = delete = get

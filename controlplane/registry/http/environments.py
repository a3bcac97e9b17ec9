"""The environment that a request is about."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from controlplane.kernel.errors import InvalidInput, NotFound
from controlplane.registry.models import Environment
from controlplane.registry.selectors import get_environment, list_environments

ENVIRONMENT = OpenApiParameter(
    "environment", str, description="Slug; may be left out when there is only one environment."
)


def environment_of(request: Request) -> Environment:
    """Return the environment of `?environment=`, or the only one there is.

    Raises:
        NotFound: there is none of that name, or none at all.
        InvalidInput: it was left out, and there are several.
    """
    slug = request.query_params.get("environment")
    if slug:
        return get_environment(slug)
    environments = list_environments()
    if not environments:
        raise NotFound("no environment is registered yet", field="environment")
    if len(environments) > 1:
        names = ", ".join(each.slug for each in environments)
        raise InvalidInput(f"environment must be one of: {names}", field="environment")
    return environments[0]

"""How the operator API's description names its two ways to sign in, and how it refuses."""

from __future__ import annotations

from typing import Any, Literal

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from controlplane.access.api.serializers import ProblemOut
from controlplane.access.http.problems import CONTENT_TYPE


class OperationSchema(AutoSchema):
    """Describes an operation; whatever it does not do is answered as a problem document."""

    def _get_response_bodies(
        self, direction: Literal["request", "response"] = "response"
    ) -> dict[str, Any]:
        bodies = super()._get_response_bodies(direction)
        refusal = self._get_response_for_code(  # type: ignore[no-untyped-call]  # drf-spectacular
            ProblemOut, "default", media_types=[CONTENT_TYPE], direction=direction
        )
        return {**bodies, "default": {**refusal, "description": "Refused; nothing was changed."}}


class OperatorTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # drf-spectacular
    """`Authorization: Bearer tgo_...`."""

    target_class = "controlplane.access.http.authentication.OperatorTokenAuthentication"
    name = "operatorToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the security scheme object of OpenAPI."""
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An operator token: `manage.py create_token operator <username>`.",
        }


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # drf-spectacular
    """The session of a signed-in page."""

    target_class = "controlplane.access.http.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the security scheme object of OpenAPI."""
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "A signed-in page; changes also send `X-CSRFToken`.",
        }

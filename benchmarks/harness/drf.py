"""The config API as one would write it with Django REST framework, for comparison only.

    python -m granian --interface wsgi benchmarks.harness.drf:application

It does the same job with the same selectors on the same database: find the token by its hash,
check its scope, find the newest publication of the service, compare etags.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.project.settings.dev")

import django
from django.conf import settings

# The best it can have: no middleware, and one connection that stays open.
settings.MIDDLEWARE = []
settings.DATABASES["default"]["CONN_MAX_AGE"] = None
settings.ROOT_URLCONF = "benchmarks.harness.drf"
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.authentication import BaseAuthentication  # noqa: E402
from rest_framework.exceptions import (  # noqa: E402
    AuthenticationFailed,
    NotFound,
    PermissionDenied,
)
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from controlplane.access.selectors import find_token  # noqa: E402
from controlplane.policies.selectors.publications import latest_publication  # noqa: E402


class TokenAuthentication(BaseAuthentication):
    """Looks the bearer token up in the database, by its hash."""

    def authenticate(self, request: Request) -> tuple[Any, Any]:
        """Return the token, also in place of a user."""
        text = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = find_token(text, now=datetime.now(UTC))
        if token is None:
            raise AuthenticationFailed("the token is unknown or revoked")
        return token, token


class ConfigView(APIView):
    """Answers 304 when the newest publication of the service has the etag that was sent."""

    authentication_classes = [TokenAuthentication]
    permission_classes = []

    def get(self, request: Request, environment: str, service: str) -> Response:
        """Answer one poll."""
        token: Any = request.auth
        if (token.environment, token.service) != (environment, service):
            raise PermissionDenied("the token is for another service")
        newest = latest_publication(environment, service)
        if newest is None:
            raise NotFound("nothing is published")
        headers = {"ETag": f'"{newest.etag}"', "Tidegate-Sequence": str(newest.sequence)}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return Response(status=304, headers=headers)
        return Response(newest.policy, headers=headers)


urlpatterns = [path("config/v1/<slug:environment>/<slug:service>", ConfigView.as_view())]

application = get_wsgi_application()

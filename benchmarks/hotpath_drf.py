"""The config API as one would write it with Django REST framework, for comparison only.

It does the same job with the same selectors: find the token by its hash, check its scope, find the
newest publication of the service, compare etags.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.core.management import call_command
from django.db import connection, transaction
from django.urls import path
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from controlplane.access.domain.tokens import hash_token
from controlplane.access.models import ServiceToken
from controlplane.access.selectors import find_token
from controlplane.policies.models import Publication
from controlplane.policies.selectors.publications import latest_publication


def fill_database(*, token: str, etag: str, services: int) -> None:
    """Create the tables, and a token and a publication for each service."""
    call_command("migrate", verbosity=0)
    now = datetime.now(UTC)
    with transaction.atomic():
        for number in range(1, services + 1):
            service = f"service-{number:03}"
            ServiceToken(
                kind="service",
                token_hash=hash_token(token if number == 7 else f"tgs_{number:043}"),
                environment="prod",
                service=service,
                created_at=now,
            ).save(force_insert=True)
            Publication(
                sequence=number,
                environment="prod",
                service_slug=service,
                version_number=1,
                etag=etag if number == 7 else f"{number}-0-5ca1ab1e",
                policy={},
                issued_at=now,
            ).save(force_insert=True)
    connection.close()


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

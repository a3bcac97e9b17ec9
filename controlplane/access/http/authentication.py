"""How the operator API knows who asks: a bearer token, or the session of a page."""

from __future__ import annotations

from django.contrib.auth.models import User
from rest_framework import authentication
from rest_framework.authentication import get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from controlplane.access.domain.tokens import TokenKind
from controlplane.access.models import ServiceToken
from controlplane.access.selectors import find_token
from controlplane.kernel.clock import utc_now


class OperatorTokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer tgo_...`; other schemes are left to the session."""

    def authenticate(self, request: Request) -> tuple[User, ServiceToken] | None:
        """Return the token's user and the token; None when no bearer token was sent."""
        scheme, _, presented = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        token = find_token(presented.strip().decode("ascii", "replace"), now=utc_now())
        if token is None:
            raise AuthenticationFailed("the bearer token is unknown, revoked or expired")
        if token.kind != TokenKind.OPERATOR or token.user is None:
            raise AuthenticationFailed(
                "a service token opens the config API only; use an operator token (tgo_...)"
            )
        if not token.user.is_active:
            raise AuthenticationFailed("the user of this token is no longer active")
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge, which makes a missing sign-in a 401 rather than a 403."""
        return 'Bearer realm="tidegate"'


class SessionAuthentication(authentication.SessionAuthentication):
    """The session of a signed-in page, with the CSRF token on every change."""

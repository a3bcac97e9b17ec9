"""The address a request comes from, for limits and the audit log."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from controlplane.access.domain.addresses import client_address


def address_of(request: HttpRequest) -> str:
    """Return who asks; empty when they came over a Unix socket that no trusted proxy named."""
    return client_address(
        request.META.get("REMOTE_ADDR") or "",
        request.headers.get("X-Forwarded-For", ""),
        settings.TIDEGATE.trusted_proxies,
    )

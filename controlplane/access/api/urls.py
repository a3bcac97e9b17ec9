"""Addresses of access in the operator API."""

from django.urls import path

from controlplane.access.api.tokens import (
    RevokeServiceTokenView,
    RotateServiceTokenView,
    ServiceTokensView,
    ServiceTokenView,
)
from controlplane.access.api.views import DocsView, MeView, SchemaView

_ADDRESS = "service-tokens/<int:token_id>"

urlpatterns = [
    path("me", MeView.as_view(), name="api-me"),
    path("schema", SchemaView.as_view(), name="api-schema"),
    path("service-tokens", ServiceTokensView.as_view(), name="api-service-tokens"),
    path(_ADDRESS, ServiceTokenView.as_view(), name="api-service-token"),
    path(f"{_ADDRESS}/rotate", RotateServiceTokenView.as_view(), name="api-service-token-rotate"),
    path(f"{_ADDRESS}/revoke", RevokeServiceTokenView.as_view(), name="api-service-token-revoke"),
    path("docs", DocsView.as_view(url_name="api-schema"), name="api-docs"),
]

"""Addresses of access in the operator API."""

from django.urls import path

from controlplane.access.api.views import DocsView, MeView, SchemaView

urlpatterns = [
    path("me", MeView.as_view(), name="api-me"),
    path("schema", SchemaView.as_view(), name="api-schema"),
    path("docs", DocsView.as_view(url_name="api-schema"), name="api-docs"),
]

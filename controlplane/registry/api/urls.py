"""Addresses of the registry in the operator API."""

from django.urls import path

from controlplane.registry.api.views import EnvironmentsView, ServicesView, ServiceView

urlpatterns = [
    path("environments", EnvironmentsView.as_view(), name="api-environments"),
    path("services", ServicesView.as_view(), name="api-services"),
    path("services/<slug:service_slug>", ServiceView.as_view(), name="api-service"),
]

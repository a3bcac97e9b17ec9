"""Addresses of telemetry in the operator API."""

from django.urls import path

from controlplane.telemetry.api.views import FleetSignalsView, ServiceSignalsView

urlpatterns = [
    path("signals", FleetSignalsView.as_view(), name="api-signals"),
    path(
        "services/<slug:service_slug>/signals",
        ServiceSignalsView.as_view(),
        name="api-service-signals",
    ),
]

"""Addresses of delivery in the operator API."""

from django.urls import path

from controlplane.delivery.api.propagation import (
    DriftView,
    PublicationInstancesView,
    PublicationsView,
    PublicationView,
)
from controlplane.delivery.api.views import ConvergenceView, InstancesView

urlpatterns = [
    path("drift", DriftView.as_view(), name="api-drift"),
    path("publications", PublicationsView.as_view(), name="api-publications"),
    path("publications/<int:sequence>", PublicationView.as_view(), name="api-publication"),
    path(
        "publications/<int:sequence>/instances",
        PublicationInstancesView.as_view(),
        name="api-publication-instances",
    ),
    path("instances", InstancesView.as_view(), name="api-instances"),
    path(
        "services/<slug:service_slug>/convergence",
        ConvergenceView.as_view(),
        name="api-convergence",
    ),
]

"""Addresses of delivery in the operator API."""

from django.urls import path

from controlplane.delivery.api.views import ConvergenceView, InstancesView

urlpatterns = [
    path("instances", InstancesView.as_view(), name="api-instances"),
    path(
        "services/<slug:service_slug>/convergence",
        ConvergenceView.as_view(),
        name="api-convergence",
    ),
]

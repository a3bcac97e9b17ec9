"""Addresses of delivery in the operator API."""

from django.urls import path

from controlplane.delivery.api.propagation import (
    DriftView,
    PublicationInstancesView,
    PublicationsView,
    PublicationView,
)
from controlplane.delivery.api.signing_keys import (
    RotateSigningKeyView,
    SigningKeysView,
    SigningKeyView,
    WithdrawSigningKeyView,
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
    path("signing-keys", SigningKeysView.as_view(), name="api-signing-keys"),
    path("signing-keys/rotate", RotateSigningKeyView.as_view(), name="api-signing-key-rotate"),
    path("signing-keys/<slug:kid>", SigningKeyView.as_view(), name="api-signing-key"),
    path(
        "signing-keys/<slug:kid>/withdraw",
        WithdrawSigningKeyView.as_view(),
        name="api-signing-key-withdraw",
    ),
]

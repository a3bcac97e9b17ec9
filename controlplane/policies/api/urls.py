"""Addresses of policies in the operator API."""

from django.urls import path

from controlplane.policies.api.canaries import CanaryView, EndCanaryView, PromoteCanaryView
from controlplane.policies.api.changes import ChangesView
from controlplane.policies.api.overrides import (
    ExtendOverrideView,
    OverridesView,
    OverrideView,
    RevertOverrideView,
)
from controlplane.policies.api.policy import PolicySchemaView, PolicyView
from controlplane.policies.api.versions import (
    FleetDefaultVersionsView,
    FleetDefaultView,
    PublishAgainView,
    PublishFleetDefaultAgainView,
    VersionsView,
    VersionView,
)

_SERVICE = "services/<slug:service_slug>"
_FLEET = "fleet-default"
_OVERRIDE = "overrides/<int:override_id>"

urlpatterns = [
    path(f"{_SERVICE}/policy", PolicyView.as_view(), name="api-policy"),
    path(f"{_SERVICE}/versions", VersionsView.as_view(), name="api-versions"),
    path(f"{_SERVICE}/versions/<int:number>", VersionView.as_view(), name="api-version"),
    path(
        f"{_SERVICE}/versions/<int:number>/publish",
        PublishAgainView.as_view(),
        name="api-version-publish",
    ),
    path(f"{_SERVICE}/overrides", OverridesView.as_view(), name="api-overrides"),
    path(f"{_SERVICE}/canary", CanaryView.as_view(), name="api-canary"),
    path(f"{_SERVICE}/canary/promote", PromoteCanaryView.as_view(), name="api-canary-promote"),
    path(f"{_SERVICE}/canary/end", EndCanaryView.as_view(), name="api-canary-end"),
    path(_OVERRIDE, OverrideView.as_view(), name="api-override"),
    path(f"{_OVERRIDE}/extend", ExtendOverrideView.as_view(), name="api-override-extend"),
    path(f"{_OVERRIDE}/revert", RevertOverrideView.as_view(), name="api-override-revert"),
    path(_FLEET, FleetDefaultView.as_view(), name="api-fleet-default"),
    path(f"{_FLEET}/versions", FleetDefaultVersionsView.as_view(), name="api-fleet-defaults"),
    path(
        f"{_FLEET}/versions/<int:number>/publish",
        PublishFleetDefaultAgainView.as_view(),
        name="api-fleet-default-publish",
    ),
    path("changes", ChangesView.as_view(), name="api-changes"),
    path("policy-schema", PolicySchemaView.as_view(), name="api-policy-schema"),
]

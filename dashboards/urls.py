"""Pages and their regions. A region's URL is under `regions/` of the page it belongs to."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import path

from dashboards.views import (
    account,
    canary,
    changes,
    convergence,
    fleet,
    rollback,
    service,
    session,
    tune,
)

urlpatterns = [
    path("", fleet.fleet, name="fleet"),
    path("regions/fleet", fleet.fleet_region, name="fleet-region"),
    path("search/", fleet.search, name="search"),
    path("login/", session.SignIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("account/password/", account.password, name="account-password"),
    path("theme/", session.set_theme, name="theme"),
    path("services/<slug:service_slug>/", service.service, name="service"),
    path(
        "services/<slug:service_slug>/regions/header", service.header_region, name="service-header"
    ),
    path(
        "services/<slug:service_slug>/regions/charts", service.charts_region, name="service-charts"
    ),
    path(
        "services/<slug:service_slug>/regions/endpoints",
        service.endpoints_region,
        name="service-endpoints",
    ),
    path(
        "services/<slug:service_slug>/regions/dependencies",
        service.dependencies_region,
        name="service-dependencies",
    ),
    path(
        "services/<slug:service_slug>/regions/limits", service.limits_region, name="service-limits"
    ),
    path(
        "services/<slug:service_slug>/regions/tenants",
        service.tenants_region,
        name="service-tenants",
    ),
    path(
        "services/<slug:service_slug>/regions/instances",
        service.instances_region,
        name="service-instances",
    ),
    path(
        "services/<slug:service_slug>/regions/objectives",
        service.objectives_region,
        name="service-objectives",
    ),
    path(
        "services/<slug:service_slug>/regions/recent", service.recent_region, name="service-recent"
    ),
    path(
        "services/<slug:service_slug>/regions/canary", canary.canary_region, name="service-canary"
    ),
    path("services/<slug:service_slug>/canary/", canary.canary, name="canary"),
    path(
        "services/<slug:service_slug>/canary/regions/members",
        canary.members_region,
        name="canary-members",
    ),
    path("canaries/<int:canary_id>/widen", canary.widen, name="canary-widen"),
    path("canaries/<int:canary_id>/promote", canary.promote, name="canary-promote"),
    path("canaries/<int:canary_id>/end", canary.end, name="canary-end"),
    path("services/<slug:service_slug>/tune/", tune.tune, name="tune"),
    path(
        "services/<slug:service_slug>/tune/regions/preview",
        tune.preview_region,
        name="tune-preview",
    ),
    path("services/<slug:service_slug>/rollback/", rollback.rollback, name="rollback"),
    path("fleet-default/rollback/", rollback.fleet_default_rollback, name="fleet-default-rollback"),
    path("convergence/", convergence.convergence, name="convergence"),
    path("convergence/regions/drift", convergence.drift_region, name="convergence-drift"),
    path("convergence/regions/rejections", convergence.rejections_region, name="rejections"),
    path(
        "convergence/regions/publications",
        convergence.publications_region,
        name="convergence-publications",
    ),
    path("convergence/<int:sequence>/", convergence.publication, name="publication"),
    path(
        "convergence/<int:sequence>/regions/publication",
        convergence.publication_region,
        name="publication-region",
    ),
    path("changes/", changes.changes, name="changes"),
    path("changes/regions/in-force", changes.in_force_region, name="changes-in-force"),
    path("changes/regions/history", changes.history_region, name="changes-history"),
    path("changes/<int:sequence>/", changes.change, name="change"),
    path("changes/<int:sequence>/regions/spread", changes.spread_region, name="change-spread"),
    path("overrides/<int:override_id>/revert", changes.revert, name="override-revert"),
    path("overrides/<int:override_id>/extend", changes.extend, name="override-extend"),
]

"""Every URL, by string."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, re_path

from controlplane.access.api.views import UnknownView
from controlplane.access.http.admin_doors import change_password_in_admin, sign_in_to_admin

urlpatterns = [
    path("admin/login/", sign_in_to_admin),
    path("admin/password_change/", change_password_in_admin),
    path("admin/", admin.site.urls),
    path("api/v1/", include("controlplane.access.api.urls")),
    path("api/v1/", include("controlplane.notifications.api.urls")),
    path("api/v1/", include("controlplane.registry.api.urls")),
    path("api/v1/", include("controlplane.policies.api.urls")),
    path("api/v1/", include("controlplane.delivery.api.urls")),
    path("api/v1/", include("controlplane.telemetry.api.urls")),
    re_path(r"^api/", UnknownView.as_view()),
    path("", include("dashboards.urls")),
]
handler400 = "dashboards.views.errors.bad_request"
handler403 = "dashboards.views.errors.forbidden"
handler404 = "dashboards.views.errors.not_found"
handler500 = "dashboards.views.errors.server_error"

"""Addresses of alerts in the operator API."""

from django.urls import path

from controlplane.notifications.api.views import AlertsView

urlpatterns = [path("alerts", AlertsView.as_view(), name="api-alerts")]

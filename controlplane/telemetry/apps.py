"""Django app: Reading the fleet's metrics."""

from django.apps import AppConfig


class TelemetryConfig(AppConfig):
    """Reading the fleet's metrics."""

    name = "controlplane.telemetry"
    label = "telemetry"
    default_auto_field = "django.db.models.BigAutoField"

"""Django app: Reading the fleet's metrics."""

from django.apps import AppConfig


class TelemetryConfig(AppConfig):
    """Reading the fleet's metrics."""

    name = "controlplane.telemetry"
    label = "telemetry"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Expose the collector's figures on this process's `/metrics`."""
        # Django's cache may only be imported once the apps are loaded.
        from controlplane.telemetry.services.own_metrics import expose_collector_figures

        expose_collector_figures()
